"""What selectors choose by the epoch and by the plane, and what they refuse."""

from pathlib import Path

import pytest

from ckd_mm.errors import ConfigError
from ckd_mm.infoplane import InformationPlane, PlanePoint
from ckd_mm.selection import SelectionContext, build_selector
from ckd_mm.trajectory import Snapshot, Trajectory


def trajectory(epochs, max_epochs=None, **info) -> Trajectory:
    return Trajectory(Path('run'), [Snapshot(Path(f'run/epoch_{epoch}.pth'), epoch) for epoch in epochs],
                      dict(info, max_epochs=max_epochs))


CIFAR = range(20, 201, 20)  # CheckpointKD, Sec. 3.2


@pytest.mark.parametrize('selector, epochs, chosen', [
    ('last', CIFAR, [200]),
    ('half_way', CIFAR, [100]),
    (dict(type='fraction', fraction=0.3), CIFAR, [60]),  # T^0.3, Table 3
    (dict(type='fraction', fraction=0.7), CIFAR, [140]),  # T^0.7
    (dict(type='fraction', fraction=1), CIFAR, [200]),
    ('half_way', range(50, 151, 25), [75]),  # Tiny-ImageNet
    ('half_way', range(10, 121, 10), [60]),  # ImageNet
    ('half_way', [30, 90, 200], [90]),  # the nearest
    ('half_way', [90, 110, 200], [110]),  # of equals the later
    (dict(type='epoch', epochs=160), CIFAR, [160]),
    (dict(type='epoch', epochs=[160, 20]), CIFAR, [20, 160]),
    (dict(type='even', k=1), CIFAR, [200]),
    (dict(type='even', k=2), CIFAR, [100, 200]),  # EN3, Table 2
    (dict(type='even', k=10), CIFAR, list(CIFAR)),
    (dict(type='even', k=4), range(50, 201, 50), [50, 100, 150, 200]),
    (dict(type='even', k=7), range(1, 201), [29, 57, 86, 114, 143, 171, 200])])  # 200/7 = 28.57, 57.14, ...
def test_choices(selector, epochs, chosen):
    selection = build_selector(selector).select(trajectory(epochs))
    assert [snapshot.epoch for snapshot in selection.snapshots] == chosen
    assert selection.reason


def test_fraction_counts_from_the_planned_length_and_says_when_it_is_not_exact():
    selection = build_selector('half_way').select(trajectory([10, 20, 30], max_epochs=100))
    assert selection.snapshots[0].epoch == 30
    assert selection.reason == '0.5 of 100 epochs is 50; there is no snapshot just there, this is the nearest'


@pytest.mark.parametrize('selector, chosen', [
    ('last', [21]), ('half_way', [10]),  # 10.5 epochs
    (dict(type='epoch', epochs=[10, 21]), [10, 21]),
    (dict(type='even', k=3), [10, 20, 21]),  # of phases of 10 epochs, the last of which ends early
    (dict(type='ensemble', kind='snapshot', k=3), [10, 20, 21]),
    (dict(type='ensemble', kind='full', k=1), [21])])
def test_of_30_epochs_21_were_trained(selector, chosen):
    selection = build_selector(selector).select(trajectory([10, 20, 21], 21, planned_epochs=30))
    assert [snapshot.epoch for snapshot in selection.snapshots] == chosen
    assert selection.reason.endswith('; the training was stopped early, after 21 of 30 epochs')


@pytest.mark.parametrize('selector, message', [
    (dict(type='epoch', epochs=[10, 30]), r"wants epochs \[10, 30\]; .* stopped early, .*epochs=\[20, 21\]"),
    (dict(type='even', k=6), r'wants epochs \[5, 10, 15, 20, 25, 30\]; the training was stopped early'),
    (dict(type='ensemble', kind='snapshot', k=6), 'the training was stopped early'),
    (dict(type='even', k=2), r'no snapshot at \[15\]')])
def test_phases_that_were_never_begun(selector, message):
    with pytest.raises(ConfigError, match=message):
        build_selector(selector).select(trajectory([10, 20, 21], 21, planned_epochs=30))


@pytest.mark.parametrize('selector, message', [
    (dict(type='epoch', epochs=[20, 55]), r'no snapshot at \[55\]; it has \[20, 40'),
    (dict(type='even', k=4),
     r'wants epochs \[50, 100, 150, 200\], but the trajectory has no snapshot at \[50, 150\]'),
    (dict(type='even', k=500),
     'k=500 snapshots at the ends of equal phases, but the teacher trains for only 200 epochs'),
    ('information_plane', 'needs the information plane')])
def test_what_is_not_there(selector, message):
    with pytest.raises(ConfigError, match=message):
        build_selector(selector).select(trajectory(CIFAR))


@pytest.mark.parametrize('selector, message', [
    ('best', "type='best' should be one of"),
    (None, 'type=None should be one of'),
    (dict(k=2), 'type=None should be one of'),
    (dict(type='epoch'), 'epoch does not take these settings'),
    (dict(type='epoch', epochs=[]), r'epochs=\[\]'),
    (dict(type='epoch', epochs=[0]), r'epochs=\[0\]'),
    (dict(type='fraction', fraction=0), 'fraction=0'),
    (dict(type='even', k=1.5), 'k=1.5'),
    (dict(type='cmi', tau=0), 'tau=0 should be a finite number, at least 0.01'),
    (dict(type='cmi', likelihood_weight=-1), 'likelihood_weight=-1 should be a finite number, at least 0'),
    (dict(type='calibration', measure='ece'), "measure='ece' should be one of"),
    (dict(type='short_probe', epochs=0), 'epochs=0'),
    (dict(type='short_probe', factor=1), 'factor=1 should be a whole number, at least 2'),
    (dict(type='ensemble', kind='all', k=2), "kind='all' should be one of"),
    (dict(type='ensemble', kind='full', k=0), 'k=0')])
def test_bad_settings(selector, message):
    with pytest.raises(ConfigError, match=message):
        build_selector(selector)


def test_t_star():
    plane = InformationPlane([PlanePoint(20, 0.1, 0.2), PlanePoint(40, 0.3, 0.6), PlanePoint(60, 0.2, 0.7)])
    selection = build_selector('information_plane').select(trajectory([20, 40, 60]), SelectionContext(plane))
    assert [snapshot.epoch for snapshot in selection.snapshots] == [40]
    assert [row['score'] for row in selection.scores] == pytest.approx([0, 1.8, 1.5])
    with pytest.raises(ConfigError, match=r'lacks the snapshots of epochs \[80\]'):
        build_selector('information_plane').select(trajectory([20, 40, 60, 80]), SelectionContext(plane))
