"""Students and teacher on one information plane."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from ckd_mm.infoplane import InformationPlane, PlanePoint
from ckd_mm.report import draw_planes
from ckd_mm.report.planes import STYLES

PLACES = dict(teacher=[(0.05, 0.4), (0.06, 0.9), (0.04, 0.99)], full=[(0.07, 0.1), (0.09, 0.9)],
              inter=[(0.05, 0.1), (0.11, 0.8)], alone=[(0.11, 0.2)], smooth=[(0.11, 0.2), (0.08, 0.7)])


def hand_made(*roles) -> dict:
    return {role: InformationPlane([PlanePoint(10 * (index + 1), x, y)
                                    for index, (x, y) in enumerate(PLACES[role])]) for role in roles}


def test_curves_stars_and_labels(tmp_path):
    figure = draw_planes(hand_made(*PLACES), tmp_path / 'planes.png', dict(full=[30], inter=[20]))
    assert (tmp_path / 'planes.png').read_bytes().startswith(b'\x89PNG')
    axes, = figure.axes
    assert {line.get_color(): list(zip(*line.get_data())) for line in axes.lines} == {
        STYLES[role][1]: places for role, places in PLACES.items()}
    assert len({style[1] for style in STYLES.values()}) == len({style[2] for style in STYLES.values()}) == 5
    for places, drawn in zip(PLACES.values(), axes.collections):
        assert (drawn.get_offsets() == np.array(places)).all()
        assert (np.diff(drawn.get_sizes()) > 0).all(), 'markers should grow with time'
    stars = {to_hex(drawn.get_facecolor()[0]): drawn.get_offsets().tolist() for drawn in axes.collections[5:]}
    assert stars == {STYLES['full'][1]: [[0.04, 0.99]], STYLES['inter'][1]: [[0.06, 0.9]]}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        *(STYLES[role][0] for role in PLACES), 'full teacher: epoch 30', 'intermediate teacher: epoch 20']
    ends = {(STYLES[role][1], str(epoch)) for role in PLACES for epoch in (10, 10 * len(PLACES[role]))}
    assert {(text.get_color(), text.get_text()) for text in axes.texts} == ends - {
        (STYLES['teacher'][1], '30')}, 'the star is in the legend'
    labels = axes.get_xlabel(), axes.get_ylabel()
    assert labels == ('I(X;F), nats per pixel and channel', 'I(Y;F), accuracy')
    # nothing overlaps: the legend is below the curves, no label on another
    figure.draw_without_rendering()
    assert axes.get_legend().get_window_extent().y1 < axes.get_window_extent().y0
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index])


def test_a_teacher_alone():
    figure = draw_planes(hand_made('teacher'))
    assert {text.get_text() for text in figure.axes[0].texts} == {'10', '30'}
    with pytest.raises(KeyError):
        draw_planes(hand_made('teacher'), None, dict(full=[25]))
