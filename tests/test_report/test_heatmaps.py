"""The figure of class correlations."""

import numpy as np
import torch
from matplotlib.colors import to_rgb

from ckd_mm.report import draw_class_correlation
from ckd_mm.report.heatmaps import NO_IMAGES

KINDS = ('logits', 'probabilities')


def test_scales_and_grey(tmp_path):
    generator = torch.Generator().manual_seed(0)
    maps = {epoch: {kind: torch.rand(30, 30, generator=generator) for kind in KINDS} for epoch in (60, 120)}
    maps[60]['logits'][7] = maps[120]['logits'][7] = float('nan')
    figure = draw_class_correlation(maps, 4.0, tmp_path / 'figure.png')
    assert (tmp_path / 'figure.png').read_bytes().startswith(b'\x89PNG')
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in panels] == [
        title for kind in ('logits', 'softmax(logits / 4)')
        for title in (f'epoch 60, {kind}', f'epoch 120, {kind}', 'epoch 60 - epoch 120')]
    for row, kind in zip((panels[:3], panels[3:]), KINDS):
        first, second, change = (axes.images[0] for axes in row)
        assert first.get_clim() == second.get_clim() == (np.nanmin([maps[60][kind], maps[120][kind]]), 1)
        low, high = change.get_clim()
        assert low == -high < 0, 'no difference should be the middle of the colours'
        np.testing.assert_array_equal(change.get_array().filled(np.nan), maps[60][kind] - maps[120][kind])
    for axes in panels[:3]:
        drawn = axes.images[0].to_rgba(axes.images[0].get_array())
        assert np.allclose(drawn[7, 0, :3], to_rgb(NO_IMAGES)) and not np.allclose(drawn[6, 0], drawn[7, 0])


def test_names_of_few_classes_and_equal_snapshots(tmp_path):
    maps = {epoch: {kind: torch.eye(3) for kind in KINDS} for epoch in (1, 2)}
    figure = draw_class_correlation(maps, 5.0, tmp_path / 'figure.svg', classes=['cat', 'dog', 'car'])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ['cat', 'dog', 'car']
    assert '<svg' in (tmp_path / 'figure.svg').read_text()
