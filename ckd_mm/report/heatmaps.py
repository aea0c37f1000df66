"""Class correlation as heatmaps (Fig. 5 of CheckpointKD)."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from .figures import canvas, save_figure

NO_IMAGES = '#bdbdbd'
NAMED = 20  # as many class names can be read beside a map


def draw_class_correlation(maps: dict[int, dict[str, Tensor]], tau: float, path: Path | None = None,
                           classes: Sequence[str] | None = None) -> Figure:
    """The maps of two snapshots side by side on one colour scale, and the first minus the second; classes
    without images grey.

    Args:
        maps: two epochs to ``logits`` and ``probabilities`` of :func:`ckd_mm.evaluation.correlation_maps`,
            (C, C) each.
        tau: temperature of the probabilities.
        classes: names, written beside the maps where they are few.
    """
    (first, left), (second, right) = maps.items()
    figure = canvas(12.6, 7.6)
    grid = figure.subplots(2, 3)
    similar, change = (matplotlib.colormaps[name].with_extremes(bad=NO_IMAGES)
                       for name in ('viridis', 'RdBu_r'))
    kinds = dict(logits='logits', probabilities=rf'softmax(logits / {tau:g})')
    for axes, (kind, name) in zip(grid, kinds.items()):
        both, difference = torch.stack([left[kind], right[kind]]), left[kind] - right[kind]
        lowest = both[~both.isnan()].min().item()
        for place, epoch, values in zip(axes, (first, second), both):
            drawn = place.imshow(values.numpy(), cmap=similar, vmin=lowest, vmax=1)
            place.set_title(f'epoch {epoch}, {name}', fontsize=10)
        figure.colorbar(drawn, ax=list(axes[:2]), label='cosine similarity', shrink=0.9)
        # of a million pairs the largest difference would make all others pale
        most = max(np.nanquantile(difference.abs().numpy(), 0.995), 1e-12)
        drawn = axes[2].imshow(difference.numpy(), cmap=change, vmin=-most, vmax=most)
        axes[2].set_title(f'epoch {first} - epoch {second}', fontsize=10)
        figure.colorbar(drawn, ax=axes[2], label='difference', shrink=0.9, extend='both')
    for place in grid.flat:
        if classes is not None and len(classes) <= NAMED:
            turned = 90 if max(map(len, classes)) > 2 else 0
            place.set_xticks(range(len(classes)), classes, fontsize=7, rotation=turned)
            place.set_yticks(range(len(classes)), classes, fontsize=7)
        else:
            place.set(xlabel='class', ylabel='class')
    return save_figure(figure, path)
