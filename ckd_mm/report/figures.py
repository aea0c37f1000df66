"""Figures. Every ``draw_*`` function returns its figure and, given a ``path``, writes it as .png or .svg."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..counting import EPOCH, WORDS
from ..files import atomic_write
from ..infoplane.plane import InformationPlane

# distinct for the colour-blind, too
TEACHER, STUDENT, BASELINE, CHOSEN = '#c0392b', '#1f6fb2', '#7f8c8d', '#e69f00'
Curve = Sequence[tuple[float, float]]


def draw_information_plane(plane: InformationPlane, path: Path | None = None,
                           chosen: Sequence[int] = ()) -> Figure:
    """A trajectory on the normalised plane, with the maximum of the sum (Fig. 7 of CheckpointKD); the
    ``chosen`` epochs, by default T*, are starred."""
    rows = plane.normalised()
    chosen = set(chosen) or {plane.best_epoch}
    figure, axes = one_panel(5.4, 4.6)
    xs, ys = [row['x'] for row in rows], [row['y'] for row in rows]
    axes.plot(xs, ys, color=TEACHER, linewidth=1.2, alpha=0.6, zorder=1)
    axes.scatter(xs, ys, s=26, color=TEACHER, zorder=2)
    best = max(row['sum'] for row in rows)
    # where x + y is the greatest sum: no snapshot lies above this line
    axes.plot([best - 1.05, 1.05], [1.05, best - 1.05], color='#b0b0b0', linewidth=1, linestyle='--',
              zorder=0, label=f'I(X;F) + I(Y;F) = {best:.2f}')
    stars = [row for row in rows if row['epoch'] in chosen]
    for row in stars:
        star(axes, row['x'], row['y'], 260, label=f'teaches: {WORDS[plane.unit]} {row["epoch"]}')
    labelled: list[dict] = []
    for row in [*stars, rows[-1], rows[0], *rows]:  # no label overprints one before
        if all(abs(row['x'] - other['x']) + abs(row['y'] - other['y']) > 0.05 for other in labelled):
            labelled.append(row)
            axes.annotate(str(row['epoch']), (row['x'], row['y']), textcoords='offset points',
                          xytext=(6, -11), fontsize=8, color='#444444')
    axes.set(xlim=(-0.06, 1.08), ylim=(-0.06, 1.08), xlabel='I(X;F), normalised', ylabel='I(Y;F), normalised')
    axes.set_title(f'Information plane of the teacher, {len(rows)} snapshots (numbers: {WORDS[plane.unit]}s)',
                   fontsize=10)
    axes.legend(loc='lower left' if rows[0]['x'] > 0.4 else 'lower right', fontsize=8, frameon=False)
    return save_figure(figure, path)


def draw_training(curves: dict[str, Curve], starred: dict[str, Sequence[int]] | None = None,
                  path: Path | None = None, unit: str = EPOCH) -> Figure:
    """Validation accuracy (percent) against the epoch, or iteration.

    Args:
        curves: name ('teacher', 'student', 'student alone', or another) to points (epoch, accuracy).
        starred: name of a curve to those of its epochs that teach.
    """
    figure, axes = one_panel(5.4, 4.6)
    colours = {'teacher': TEACHER, 'student': STUDENT, 'student alone': BASELINE}
    others = [name for name in curves if name not in colours]
    # what lies between teacher and student, from light to dark
    colours.update({name: matplotlib.colormaps['Greens'](0.35 + 0.5 * (index + 1) / len(others))
                    for index, name in enumerate(others)})
    for name, curve in curves.items():
        axes.plot(*zip(*curve), color=colours[name], label=name, linewidth=1.6, marker='o', markersize=3)
    stars = [point for name, epochs in (starred or {}).items() for point in curves.get(name, ())
             if point[0] in epochs]
    if stars:
        star(axes, *zip(*stars), label='teaches')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=WORDS[unit], ylabel='top-1 accuracy on validation images, %')
    axes.set_title('Training', fontsize=10)
    axes.legend(loc='lower right', fontsize=8, frameon=False)
    return save_figure(figure, path)


def one_panel(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure, in inches, with one panel."""
    figure = canvas(width, height)
    return figure, plain_axes(figure.add_subplot())


def canvas(width: float, height: float) -> Figure:
    """An empty figure, in inches, outside of pyplot: no global state, no display."""
    return Figure(figsize=(width, height), layout='constrained')


def plain_axes(axes: Axes) -> Axes:
    """A light grid behind what is drawn, and no frame above and to the right."""
    axes.grid(True, color='#ececec')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    return axes


def star(axes: Axes, x: Any, y: Any, size: float = 220, **options) -> None:
    axes.scatter(x, y, s=size, marker='*', edgecolor='black', linewidth=0.8,
                 **{'color': CHOSEN, 'zorder': 3, **options})


def save_figure(figure: Figure, path: Path | None) -> Figure:
    if path is not None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=Path(path).suffix[1:], dpi=130)
        atomic_write(path, buffer.getvalue())
    return figure


def as_svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element, the same text for the same figure."""
    buffer = io.StringIO()
    with matplotlib.rc_context({'svg.hashsalt': 'ckd_mm', 'svg.fonttype': 'none'}):
        figure.savefig(buffer, format='svg', metadata={'Date': None})
    text = buffer.getvalue()
    return text[text.index('<svg'):]
