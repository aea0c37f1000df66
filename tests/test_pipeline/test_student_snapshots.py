"""The trajectory of a student while it learns."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, RUNNERS

from ckd_mm.errors import ConfigError
from ckd_mm.files import plain
from ckd_mm.trajectory import Trajectory

from ..conftest import STATISTICS, resnet
from ..helpers import assert_same_weights, opened, weights_of


class PullThePlug(Hook):

    def before_train_epoch(self, runner) -> None:
        if runner.epoch == 1 and type(runner.model).__name__ == 'CheckpointDistill' and not runner._resume:
            raise RuntimeError('power cut')


@pytest.fixture
def plug():
    HOOKS.register_module(name='PullThePlug', module=PullThePlug)
    yield dict(type='PullThePlug')
    HOOKS.module_dict.pop('PullThePlug')


def test_both_students_leave_plain_classifiers(distil_run, tmp_path, plug):
    settings = dict(selector='last', probe=None, student_snapshots=dict(interval=1), student_alone=True)
    unbroken = distil_run(**settings, work_dir=str(tmp_path / 'unbroken'))
    RUNNERS.build(unbroken).train()
    for stage in ('student', 'student_alone'):
        found = Trajectory.open(tmp_path / 'unbroken' / stage)
        assert found.epochs == [1, 2] and found.max_epochs == 2 and 'held_out' not in found.info
        assert found.info['model']['type'] == 'ImageClassifier' and found.info['model']['backbone'] == plain(
            resnet()['backbone'])
        assert found.info['model']['data_preprocessor'] == STATISTICS
        network = found.last.build()
        assert_same_weights(network.state_dict(), weights_of(tmp_path / 'unbroken' / stage / 'epoch_2.pth'))
        assert found.last.accuracy is not None
    assert_same_weights(Trajectory.open(tmp_path / 'unbroken' / 'student').last.state_dict(),
                        weights_of(tmp_path / 'unbroken' / 'student.pth'))

    broken = distil_run(**settings, work_dir=str(tmp_path / 'broken'), custom_hooks=[plug])
    with pytest.raises(RuntimeError, match='power cut'):
        RUNNERS.build(broken).train()
    assert Trajectory.open(tmp_path / 'broken' / 'student').epochs == [1]
    written = (tmp_path / 'broken' / 'student' / 'snapshots' / 'epoch_1.pth').stat().st_mtime_ns
    broken.resume = True
    RUNNERS.build(broken).train()
    resumed = Trajectory.open(tmp_path / 'broken' / 'student')
    resumed.check()
    assert resumed.epochs == [1, 2] and resumed.at(1).file.stat().st_mtime_ns == written
    for epoch in (1, 2):
        assert_same_weights(
            resumed.at(epoch).state_dict(),
            Trajectory.open(tmp_path / 'unbroken' / 'student').at(epoch).state_dict())
    first, second = (resumed.at(epoch).state_dict()['head.fc.weight'] for epoch in (1, 2))
    assert not torch.equal(first, second), 'the student should have learnt between its snapshots'


@pytest.mark.parametrize('given, message', [
    (dict(interval=0), '^student_snapshots.interval=0 should be a whole number, at least 1'),
    (dict(epochs=[1, 5]), r'^student_snapshots: epochs=\[1, 5\] asks for epoch 5, but the run ends after 2 '
                          r'epochs'),
    (dict(phases=3), '^student_snapshots: phases=3 but the run has only 2 epochs'),
    (dict(interval=1, phases=1), '^student_snapshots: give exactly one of interval, epochs, phases'),
    (dict(every=1), "^student_snapshots: unknown key 'every'; known are interval, epochs, phases"),
    (5, '^student_snapshots=5 should be a dict'),
])
def test_bad_settings(distil_run, given, message):
    with pytest.raises(ConfigError, match=message):
        RUNNERS.build(distil_run(student_snapshots=given)).train()


def test_without_the_key_nothing_is_kept(distil_run):
    run, stages = opened(distil_run(student_alone=True))
    for name in ('student', 'student_alone'):
        assert 'SnapshotHook' not in stages[name].config(run).pretty_text
