"""One teacher after another: the truth table, each teacher as if it were alone, and resumed."""

import gc
import weakref
from pathlib import Path

import pytest

from ckd_mm.errors import ConfigError, SnapshotError
from ckd_mm.hooks import ProgressiveTeacherHook
from ckd_mm.registry import MODELS
from ckd_mm.teachers import SnapshotEnsemble

from ..conftest import resnet
from ..helpers import (
    StepLog,
    assert_same_weights,
    feature_distiller,
    network,
    train,
    weights_of,
    with_statistics,
)
from .conftest import FROZEN, PROGRESSIVE, STOP, killed


@pytest.fixture
def built(monkeypatch):
    """Which snapshots (their epochs) were ever built."""
    cohorts, init = [], SnapshotEnsemble.__init__

    def building(cohort, *args, **kwargs):
        init(cohort, *args, **kwargs)
        cohorts.append([snapshot.epoch for snapshot in cohort.snapshots])

    monkeypatch.setattr(SnapshotEnsemble, '__init__', building)
    return cohorts


@pytest.mark.parametrize('starts, epochs, teachers, expected', [
    (None, 3, (1, 2, 3), [1, 2, 3]), (None, 4, (1, 3), [1, 1, 3, 3]), (None, 4, (1, 2, 3), [1, 2, 2, 3]),
    ([0, 1, 3], 4, (1, 2, 3), [1, 2, 2, 3]), ([0, 3], 4, (3, 2), [3, 3, 3, 2])])
def test_truth_table(scheduled, teaching, built, starts, epochs, teachers, expected):
    runner = train(scheduled(dict(PROGRESSIVE, starts=starts), epochs=epochs, teachers=teachers))
    assert teaching == [[epoch] for epoch in expected]
    assert built == [[epoch] for epoch in dict.fromkeys(expected)]
    assert [snapshot.epoch for snapshot in runner.model.cohort.snapshots] == [expected[-1]]


def test_spread_over_the_epochs_with_distillation(scheduled, teaching):
    train(scheduled(PROGRESSIVE, dict(STOP, stop_epoch=3), teachers=(1, 2, 3)))
    assert teaching == [[1], [2], [3]]


def test_each_teacher_teaches_as_if_it_were_alone(scheduled):
    """Frozen student, teachers whose input statistics differ from the student's: the loss of each epoch is
    that of a run with this teacher."""
    still = dict(FROZEN, epochs=3, images=64,
                 statistics=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True))
    log = StepLog()
    train(scheduled(PROGRESSIVE, teachers=(1, 2, 3), **still), log)
    for teacher in (1, 2, 3):
        alone = StepLog()
        train(scheduled(teachers=(teacher, ), **still), alone)
        assert [step for epoch, step in log.steps if epoch == teacher] == [
            step for epoch, step in alone.steps if epoch == teacher]


def test_a_resumed_run_loads_the_teacher_of_its_epoch_and_no_other(scheduled, tmp_path, built, teaching):
    def config():
        return scheduled(PROGRESSIVE, teachers=(1, 2, 3), epochs=3)

    whole = train(config())
    for epoch in (1, 2):
        resumed = killed(config(), epoch + 1)
        (tmp_path / 'teacher' / 'snapshots' / f'epoch_{epoch}.pth').rename(tmp_path / f'epoch_{epoch}.pth')
        built.clear()
        teaching.clear()
        runner = train(resumed)
        assert built == teaching == [[later] for later in range(epoch + 1, 4)]
        assert_same_weights(runner.model.state_dict(), whole.model.state_dict())
        (tmp_path / f'epoch_{epoch}.pth').rename(tmp_path / 'teacher' / 'snapshots' / f'epoch_{epoch}.pth')


def test_replaced_teachers_are_released(scheduled):
    model = MODELS.build(scheduled(teachers=(1, 2)).model)
    old, weight = weakref.ref(model.cohort), weakref.ref(next(model.cohort.parameters()))
    model.replace_cohort(dict(model.cohort_config, snapshots=model.cohort_config['snapshots'][:1]))
    gc.collect()
    assert old() is None and weight() is None
    assert isinstance(model.outside.cohort, dict)  # the new one is not built yet
    assert_same_weights(model.cohort.networks[0].state_dict(),
                        network(with_statistics(resnet(2)), 1).state_dict())
    assert len(model.cohort_config['snapshots']) == 2
    model.stop_distillation()
    with pytest.raises(RuntimeError, match='distillation has stopped: no teacher may follow'):
        model.replace_cohort(model.cohort_config)


def test_mmrazors_recorders_follow_the_teacher(scheduled):
    distiller = feature_distiller('backbone.layer1.1.conv2', channels=None, loss_weight=0.01)
    still = dict(FROZEN, epochs=2, images=64, distill=dict(distiller=distiller))
    logs = [StepLog(), StepLog()]
    train(scheduled(PROGRESSIVE, teachers=(1, 3), **still), logs[0])
    train(scheduled(teachers=(3, ), **still), logs[1])
    assert logs[0].steps[:4] != logs[1].steps[:4] and logs[0].steps[4:] == logs[1].steps[4:]


def test_a_missing_teacher_is_named_when_its_turn_comes(scheduled, tmp_path):
    config = scheduled(PROGRESSIVE, teachers=(1, 2, 3), epochs=3)
    (tmp_path / 'teacher' / 'snapshots' / 'epoch_2.pth').unlink()
    with pytest.raises(SnapshotError, match=r'epoch_2.pth \(epoch 2\) does not exist'):
        train(config)
    assert list(weights_of(Path(config.work_dir) / 'epoch_1.pth'))


@pytest.mark.parametrize('starts', [[], [1, 2], [0, 2, 2], [0, 2, 1], [0, 1.5], 3, 'even', [0, True]])
def test_bad_starts_are_named(starts):
    with pytest.raises(ConfigError, match='should be rising epochs .* of the student, the first 0'):
        ProgressiveTeacherHook(starts)
