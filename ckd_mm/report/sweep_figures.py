"""Students by the epoch of their teacher (Fig. 2 of CheckpointKD) and the size of an ensemble (Fig. 3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .figures import BASELINE, STUDENT, TEACHER, canvas, plain_axes, save_figure, star

KINDS = dict(snapshot=('Snapshot Ensemble', STUDENT, 'o'), full=('Full Ensemble', TEACHER, 's'),
             mixed=('mixed ensemble', '#2e8b57', '^'))
Rows = Sequence[dict[str, Any]]


def draw_sweep(rows: Rows, baseline: dict | None = None, path: Path | None = None) -> Figure:
    """Test accuracy of a teacher (above) and of the students that its snapshots taught (below), by epoch.

    Args:
        rows: one a teacher epoch: ``epoch``, ``cohort_accuracy_top1``, and of the ``n`` students ``mean``,
            ``spread`` and ``accuracies``, percent.
        baseline: the same of the student without a teacher.
    """
    figure = canvas(6.4, 5.4)
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw=dict(height_ratios=(1, 2)))
    epochs = [row['epoch'] for row in rows]
    above.plot(epochs, [row['cohort_accuracy_top1'] for row in rows], color=TEACHER, linewidth=1.6,
               marker='o', markersize=4, label='teacher after this epoch')
    if baseline is not None:
        _band(below, [min(epochs), max(epochs)], [baseline] * 2, BASELINE, 'student alone', linestyle='--')
    _band(below, epochs, rows, STUDENT, 'distilled student', marker='o')
    for row in rows:
        below.scatter([row['epoch']] * row['n'], row['accuracies'], s=9, color=STUDENT, alpha=0.45,
                      linewidth=0, zorder=3)
    best = max(rows, key=lambda row: row['mean'])
    star(below, best['epoch'], best['mean'], 200, zorder=4, label=f'highest mean: epoch {best["epoch"]}')
    above.set_ylabel('teacher, top-1 %')
    below.set(xlabel='teacher, epochs trained', ylabel='student, top-1 %')
    below.xaxis.get_major_locator().set_params(integer=True)
    above.set_title(f'Students by the epoch of their teacher, {_seeds(rows)}', fontsize=10)
    return _finish(figure, [above, below], path)


def draw_ensembles(rows: Rows, baseline: dict | None = None, path: Path | None = None) -> Figure:
    """By the size of the ensemble: test accuracy of students, and the cost of teachers and distillation
    together, in epochs and, where it was measured of all, in hours or minutes.

    Args:
        rows: one a ``kind`` and size ``k``: as of :func:`draw_sweep`, with ``cost`` (``total_epochs``,
            ``total_hours``).
        baseline: as of :func:`draw_sweep`.
    """
    costs = [('epochs', 'total_epochs', 1)]
    hours = [row['cost'].get('total_hours') for row in rows]
    if None not in hours:
        costs.append(('hours', 'total_hours', 1) if max(hours) >= 1 else ('minutes', 'total_hours', 60))
    figure = canvas(5.0 + 3.2 * len(costs), 4.4)
    left, *right = figure.subplots(1, 1 + len(costs), gridspec_kw=dict(width_ratios=[1.5] + [1] * len(costs)))
    sizes = sorted({row['k'] for row in rows})
    if baseline is not None:
        _band(left, [sizes[0], sizes[-1]], [baseline] * 2, BASELINE, 'student alone', linestyle='--')
    for place, (kind, (label, colour, marker)) in enumerate(KINDS.items()):
        own = sorted((row for row in rows if row['kind'] == kind), key=lambda row: row['k'])
        if not own:
            continue
        style = dict(color=colour, marker=marker, linewidth=1.6, markersize=5)
        ks = [row['k'] for row in own]
        # side by side: bars of equal sizes would hide each other
        left.errorbar([k + 0.012 * (place - 1) * (sizes[-1] - sizes[0]) for k in ks],
                      [row['mean'] for row in own], [row['spread'] or 0.0 for row in own], capsize=3,
                      elinewidth=1, label=f'student of the {label}', **style)
        left.plot(ks, [row['cohort_accuracy_top1'] for row in own], label=f'the {label} itself',
                  **{**style, 'linewidth': 1, 'linestyle': ':', 'markersize': 3, 'markerfacecolor': 'white'})
        for axes, (_, key, scale) in zip(right, costs):
            axes.plot(ks, [row['cost'][key] * scale for row in own], **style)
    for axes in (left, *right):
        axes.set(xticks=sizes, xlabel='size of the ensemble, k')
    left.set_ylabel('top-1 %')
    left.set_title(f'Accuracy, {_seeds(rows)}', fontsize=10)
    for axes, (unit, _, _) in zip(right, costs):
        axes.set_ylabel(f'teachers and distillation, {unit}')
        axes.set_ylim(bottom=0)
        axes.set_title(f'Training cost in {unit}', fontsize=10)
    return _finish(figure, [left, *right], path)


def _band(axes: Axes, places: list[float], rows: Rows, colour: str, label: str, **line) -> None:
    """A line through the means, and a band of one standard deviation."""
    means, spreads = [row['mean'] for row in rows], [row['spread'] or 0.0 for row in rows]
    axes.plot(places, means, color=colour, linewidth=1.6, markersize=5, label=label, zorder=2, **line)
    axes.fill_between(places, [mean - spread for mean, spread in zip(means, spreads)],
                      [mean + spread for mean, spread in zip(means, spreads)], color=colour, alpha=0.15,
                      linewidth=0, zorder=1)


def _seeds(rows: Rows) -> str:
    counts = sorted({row['n'] for row in rows})
    if counts == [1]:
        return 'one seed'
    over = counts[0] if len(counts) == 1 else f'{counts[0]} to {counts[-1]}'
    return f'mean and standard deviation over {over} seeds'


def _finish(figure: Figure, axes: Sequence[Axes], path: Path | None) -> Figure:
    """One legend for all panels, below them."""
    entries = [pair for part in axes for pair in zip(*plain_axes(part).get_legend_handles_labels())]
    figure.legend(*zip(*entries), loc='outside lower center', ncols=min(len(entries), 4), fontsize=8,
                  frameon=False)
    return save_figure(figure, path)
