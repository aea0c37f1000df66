"""Probabilities that each head gives to an image (Fig. 2 of DIH)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .figures import CHOSEN, STUDENT, canvas, plain_axes, save_figure

SHOWN = 10  # classes whose bars and names can be read
LETTERS = 18  # of a class name
PANEL, ROW = 1.75, 2.3  # inches


def draw_head_probabilities(images: Sequence[np.ndarray], labels: Sequence[int], probabilities: np.ndarray,
                            names: Sequence[str], tau: float, path: Path | None = None,
                            classes: Sequence[str] | None = None) -> Figure:
    """A row an image: the image, and a bar chart of the probabilities of each head, the teacher and their
    ensemble, for at most ten classes (:func:`shown_classes`). The true class is coloured.

    Args:
        images: (H, W, 3) each, uint8, RGB.
        labels: true class of each.
        probabilities: (images, panels, classes), at temperature ``tau``.
        names: of the panels, say head 0, head 1, teacher, ensemble.
        classes: their names; default: their numbers.
    """
    count, panels, total = probabilities.shape
    classes = [name if len(name) <= LETTERS else f'{name[:LETTERS - 1]}…'
               for name in classes or map(str, range(total))]
    figure = canvas(1.5 + PANEL * panels + 0.075 * max(map(len, classes)), ROW * count + 0.35)
    grid = figure.subplots(count, panels + 1, squeeze=False, width_ratios=[0.85] + [1] * panels)
    for axes, image, label, rows in zip(grid, images, labels, probabilities):
        axes[0].imshow(image, interpolation='nearest')
        axes[0].set_axis_off()
        axes[0].set_title(f'true class\n{classes[label]}', fontsize=9, color='#a06f00')
        shown = shown_classes(rows, label)
        for place, name, values in zip(axes[1:], names, rows):
            plain_axes(place).grid(False, axis='y')
            place.barh(range(len(shown)), values[shown], height=0.72,
                       color=[CHOSEN if index == label else STUDENT for index in shown])
            place.set(xlim=(0, 1.05 * rows[:, shown].max()), ylim=(len(shown) - 0.4, -0.6))
            named = [classes[index] for index in shown] if place is axes[1] else []
            place.set_yticks(range(len(shown)), named, fontsize=8)
            place.tick_params(axis='x', labelsize=7)
            place.locator_params(axis='x', nbins=4)
            place.set_title(f'{name}: {classes[values.argmax()]}', fontsize=9)
            if len(shown) < total:
                rest = f'the other {total - len(shown)}: {1 - values[shown].sum():.2f}'
                place.set_xlabel(rest, fontsize=7.5)
    figure.suptitle(f'Probabilities at temperature {tau:g}; above each panel its most probable class',
                    fontsize=9.5)
    return save_figure(figure, path)


def shown_classes(probabilities: np.ndarray, label: int) -> list[int]:
    """At most ten classes of (panels, C) probabilities: all, in their order; or the true one, the most
    probable one of each panel and those of the last panel, as it ranks them."""
    total = probabilities.shape[1]
    if total <= SHOWN:
        return list(range(total))
    ranked = np.argsort(-probabilities[-1], kind='stable')
    chosen = list(dict.fromkeys([label, *probabilities.argmax(axis=1)[::-1], *ranked]))[:SHOWN]
    return [int(index) for index in ranked if index in chosen]
