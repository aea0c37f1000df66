"""Selectors beside each other."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..selection.comparison import SelectorScore
from .figures import STUDENT, canvas, plain_axes, save_figure, star


def draw_selectors(selectors: Sequence[SelectorScore], truth: dict[int, list[float]],
                   path: Path | None = None) -> Figure:
    """One panel a selector: the score of each snapshot against the accuracy of the students that it taught
    (mean and standard deviation over seeds), with the snapshot that was chosen.

    Args:
        truth: epoch to the accuracies of its students, percent.
    """
    shown = [score for score in selectors if score.scores]
    columns = min(4, max(len(shown), 1))
    rows = math.ceil(len(shown) / columns)
    figure = canvas(3.1 * columns, 2.9 * rows + 0.4)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(shown):]:
        axes.set_axis_off()
    for score, axes in zip(shown, grid.flat):
        epochs = sorted(score.scores)
        scores, means = [score.scores[epoch] for epoch in epochs], [np.mean(truth[epoch]) for epoch in epochs]
        spread = [np.std(truth[epoch], ddof=1) if len(truth[epoch]) > 1 else 0.0 for epoch in epochs]
        plain_axes(axes)
        axes.errorbar(scores, means, spread, fmt='o', markersize=4, color=STUDENT, ecolor='#a8c7e6',
                      elinewidth=1.2, zorder=2)
        chosen = epochs.index(score.chosen)
        star(axes, scores[chosen], means[chosen], 190)
        for row in {0, len(epochs) - 1, chosen}:
            axes.annotate(str(epochs[row]), (scores[row], means[row]), textcoords='offset points',
                          xytext=(6, 4), fontsize=8)
        axes.axhline(max(means), color='#b0b0b0', linewidth=1, linestyle='--', zorder=0)
        rho = '' if score.rho is None else f'  ρ = {score.rho:+.2f}'
        axes.set_title(f'{score.selector}{rho}', fontsize=10)
        axes.margins(0.12)
        axes.tick_params(labelsize=8)
        axes.set_xlabel('score', fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel('accuracy of its student, %', fontsize=9)
    figure.suptitle('Scores and students of each snapshot (star: chosen; dashed: the best; numbers: epochs)',
                    fontsize=10)
    return save_figure(figure, path)
