"""A training that a hook ends is finished: its last epoch teaches, and the run can be resumed."""

import copy
import re
from pathlib import Path

import pytest
from mmengine.hooks import EarlyStoppingHook
from mmengine.registry import RUNNERS
from mmengine.runner import ValLoop

from ckd_mm.errors import ConfigError
from ckd_mm.trajectory import Trajectory

from ..conftest import distil_config
from ..helpers import assert_same_weights, logged, stopped_at, weights_of

# no accuracy is 1,000 points better than the first: training ends after two further epochs, the third
STOP = dict(type='EarlyStoppingHook', monitor='accuracy/top1', min_delta=1000, patience=2)


def config_in(folder: Path, **settings):
    config = distil_config(folder, **{'selector': 'last', 'probe': None, **settings},
                           custom_hooks=[dict(STOP)], train_cfg=dict(max_epochs=4))
    config.teacher.update(train_cfg=dict(max_epochs=6), snapshots=dict(interval=2))
    return config


def accuracies(folder: Path) -> dict[int, float]:
    """By epoch, from mmengine's own log."""
    return {row['step']: row['accuracy/top1'] for row in logged(folder, 'accuracy/top1')}


@pytest.fixture(scope='module')
def stopped(tmp_path_factory):
    """The config of a run that was killed after the first epoch of its student and resumed, its summary, and
    when the teacher's files were written."""
    config = config_in(tmp_path_factory.mktemp('stopped') / 'run')
    stopped_at(config, 'student', 1)
    folder = Path(config.work_dir)
    written = {file: file.stat().st_mtime_ns for file in [*folder.glob('snapshots/*'),
                                                          *folder.glob('teacher/*.pth')]}
    return config, RUNNERS.build(copy.deepcopy(config)).train(), written


def test_the_last_epoch_that_was_trained_teaches(stopped):
    config, summary, written = stopped
    folder = Path(config.work_dir)
    assert summary['selection']['epochs'] == [3] and summary['student']['epoch'] == 3
    found = Trajectory.open(folder)
    assert found.times == [2, 3]
    assert (found.length, found.planned) == (3, 6)
    assert {item.epoch: item.accuracy for item in found} == pytest.approx(
        {epoch: accuracies(folder / 'teacher')[epoch] for epoch in (2, 3)})
    assert_same_weights(found.last.state_dict(), weights_of(folder / 'teacher' / 'epoch_3.pth'))
    assert found.last.iteration == 3 * 4 and found.last.lr == 0.05
    assert {file: file.stat().st_mtime_ns for file in written} == written
    log = (folder / 'ckd_mm.log').read_text()
    assert ('The teacher was stopped early, after 3 of 6 epochs; the run goes on with its snapshots of '
            'epochs [2, 3]') in log
    assert 'the last snapshot, after 3 of 3 epochs; the training was stopped early, after 3 of 6' in log


def test_the_way_out_of_a_selector_that_wants_what_was_never_trained(tmp_path):
    config = config_in(tmp_path / 'run', selector=dict(_delete_=True, type='even', k=3))
    with pytest.raises(ConfigError, match=re.escape(
            'selector: wants epochs [2, 4, 6]; the training was stopped early, after 3 of 6 epochs, and left '
            "snapshots of [2, 3]. Choose among these, selector=dict(type='epoch', epochs=[2, 3]) or "
            "selector='last', and pass --resume: the teacher is kept")):
        RUNNERS.build(copy.deepcopy(config)).train()
    file = tmp_path / 'run' / 'snapshots' / 'epoch_3.pth'
    before = file.stat().st_mtime_ns
    config.resume, config.selector = True, dict(type='epoch', epochs=[2, 3])
    summary = RUNNERS.build(config).train()
    assert summary['selection']['epochs'] == [2, 3] and summary['cohort']['size'] == 2
    assert file.stat().st_mtime_ns == before


def test_killed_before_the_validation_that_ends_it(tmp_path, monkeypatch):
    """What the hook has seen is in the checkpoint: training ends where an unbroken one ends."""
    config, run = config_in(tmp_path / 'run'), ValLoop.run

    def dying(loop):
        if loop.runner.epoch == 3:
            raise KeyboardInterrupt
        return run(loop)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ValLoop, 'run', dying)
        RUNNERS.build(copy.deepcopy(config)).train()
    config.resume = True
    RUNNERS.build(config).train(until='teacher')
    found = Trajectory.open(tmp_path / 'run')
    assert found.times == [2, 3]
    assert found.last.accuracy == pytest.approx(accuracies(tmp_path / 'run' / 'teacher')[3])


def test_any_hook_may_end_it_in_an_epoch_that_is_not_validated(tmp_path, monkeypatch):
    """Its snapshot has no accuracy, not that of an earlier epoch."""
    def stop(hook, runner):
        runner.train_loop.stop_training = runner.epoch + 1 == 3

    monkeypatch.setattr(EarlyStoppingHook, 'after_train_epoch', stop)
    config = config_in(tmp_path / 'run')
    config.teacher.train_cfg.val_interval = 2
    RUNNERS.build(config).train(until='teacher')
    assert [(item.epoch, item.accuracy is None) for item in Trajectory.open(tmp_path / 'run')] == [
        (2, False), (3, True)]
