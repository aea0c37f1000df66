import json

import pytest

from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.infoplane import InformationPlane, PlanePoint


def plane(*points) -> InformationPlane:
    return InformationPlane([PlanePoint(epoch, x, y) for epoch, x, y in points])


def test_t_star_of_a_hand_made_curve():
    """I(X;F) rises and falls, I(Y;F) rises, as in Fig. 7 of the paper. By hand: x is 0, .5, 1, .6, .2 and y
    0, .5, .8, .9, 1 after scaling, so the sums are 0, 1, 1.8, 1.5, 1.2."""
    curve = plane((10, -0.70, 0.10), (20, -0.65, 0.50), (30, -0.60, 0.74), (40, -0.64, 0.82),
                  (50, -0.68, 0.90))
    assert [row['sum'] for row in curve.normalised()] == pytest.approx([0, 1, 1.8, 1.5, 1.2])
    assert curve.best_epoch == 30


def test_scale_of_an_axis_does_not_matter():
    small = plane((1, 0.001, 0.2), (2, 0.003, 0.5), (3, 0.002, 0.9))
    large = plane((1, 1000, 0.2), (2, 3000, 0.5), (3, 2000, 0.9))
    assert [row['x'] for row in small.normalised()] == pytest.approx([row['x'] for row in large.normalised()])
    assert small.best_epoch == large.best_epoch == 3


def test_an_axis_that_does_not_differ_decides_nothing():
    assert plane((1, 0.5, 0.1), (2, 0.5, 0.9)).best_epoch == 2
    assert plane((1, 0.5, 0.1)).best_epoch == 1


def test_of_equals_the_earliest():
    assert plane((1, 0, 1), (2, 1, 0), (3, 1, 0)).best_epoch == 1


def test_empty():
    with pytest.raises(CkdError, match='no snapshot was probed'):
        _ = plane().best_epoch


def test_file(tmp_path):
    path = tmp_path / 'information_plane.json'
    written = InformationPlane([PlanePoint(5, 0.1, 0.2, 0.3, 0.4, 'abc', 1.5)], dict(decoder_epochs=3),
                               dict(images=7))
    written.save(path)
    read = InformationPlane.load(path)
    assert (read.points, read.settings, read.notes) == (written.points, written.settings, written.notes)
    assert json.loads(path.read_text())['best_epoch'] == 5
    assert InformationPlane.continue_from(path, dict(decoder_epochs=3), {}).points == written.points
    with pytest.raises(ConfigError, match='was measured in another way: decoder_epochs was 3, now 4'):
        InformationPlane.continue_from(path, dict(decoder_epochs=4), {})
    whole = json.loads(path.read_text())
    for damage, message in ((dict(points={}), r'points=\{\} should be a list'),
                            (dict(points=[3]), r'points\[0\]=3 should be a dict'),
                            (dict(points=[dict(epoch=1)]), r"points\[0\]: TypeError: .*'information_x'"),
                            (dict(points=[dict(whole['points'][0], information_x='x')]),
                             r"points\[0\]\.information_x='x' should be float"),
                            (dict(points=[dict(whole['points'][0], epoch=True)]),
                             r'points\[0\]\.epoch=True should be int'),
                            (dict(settings=None), 'settings is missing')):
        path.write_text(json.dumps({**whole, **damage}))
        with pytest.raises(CkdError, match=f'^{path} is damaged: {message}'):
            InformationPlane.load(path)
    path.write_text('[]')
    with pytest.raises(CkdError, match='is no information plane: its "format" is'):
        InformationPlane.load(path)
