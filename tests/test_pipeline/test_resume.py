"""Killed processes end like an unbroken run: the demo by SIGKILL, small runs in the middle of an epoch."""

import json
import multiprocessing
import signal
import time

import pytest
from mmengine.registry import RUNNERS

from ckd_mm.pipeline.build import open_run, stage_of
from ckd_mm.pipeline.rehearsal_runner import RehearsalRunner
from ckd_mm.pipeline.resumable_loop import ResumableEpochLoop
from ckd_mm.record import flatten

from ..conftest import DEMO
from ..helpers import assert_same_weights, vision_transformer, weights_of


def killed_when(ready, work) -> None:
    """Do it in a process of its own, and kill that without warning as soon as ``ready()``."""
    process = multiprocessing.get_context('fork').Process(target=work)
    process.start()
    started = time.monotonic()
    while not ready():
        assert process.is_alive() and time.monotonic() - started < 300, 'the moment of the kill did not come'
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def states(work_dir) -> dict:
    records = json.loads((work_dir / 'stages.json').read_text())
    return {name: record['state'] for name, record in records.items()}


def test_the_demo(tool, tmp_path):
    """What it shows on any machine: T* lies between the first and the last snapshot, and the students learnt;
    which of them is better depends on seed and processor (docs/methods.md)."""
    assert tool('train.py', DEMO, '--work-dir', tmp_path)[0] == 0
    summary = json.loads((tmp_path / 'summary.json').read_text())
    assert 3 < summary['selection']['epochs'][0] < 30
    assert min(summary[name]['accuracy_top1'] for name in ('student', 'student_alone')) > 50


def test_the_demo_killed_in_three_stages_and_resumed(tool, tmp_path):
    """With fewer epochs."""
    broken, plane = tmp_path / 'broken', tmp_path / 'broken' / 'information_plane.json'
    options = ['--cfg-options', 'teacher.train_cfg.max_epochs=6', 'teacher.snapshots.interval=1',
               'train_cfg.max_epochs=4', 'probe.decoder_epochs=5']
    assert tool('train.py', DEMO, '--work-dir', tmp_path / 'unbroken', *options)[0] == 0
    command = ['train.py', DEMO, '--work-dir', broken, '--resume', *options]
    killed_when((broken / 'teacher' / 'epoch_3.pth').exists, lambda: tool(*command))
    assert states(broken) == {'teacher': 'running'}
    first_snapshot = (broken / 'snapshots' / 'epoch_2.pth').stat().st_mtime_ns
    killed_when(plane.exists, lambda: tool(*command))
    measured = json.loads(plane.read_text())['points']
    assert 1 <= len(measured) < 6, 'the plane is written snapshot by snapshot'
    last_snapshot = (broken / 'snapshots' / 'epoch_6.pth').stat().st_mtime_ns
    killed_when((broken / 'student' / 'epoch_2.pth').exists, lambda: tool(*command))
    assert states(broken) == {'teacher': 'done', 'probe': 'done', 'select': 'done', 'student': 'running'}
    assert tool(*command)[0] == 0

    # epochs before the kill, finished stages and measured snapshots are not repeated
    assert (broken / 'snapshots' / 'epoch_2.pth').stat().st_mtime_ns == first_snapshot
    assert (broken / 'snapshots' / 'epoch_6.pth').stat().st_mtime_ns == last_snapshot
    assert json.loads(plane.read_text())['points'][:len(measured)] == measured
    assert_same_weights(weights_of(tmp_path / 'unbroken' / 'student.pth'), weights_of(broken / 'student.pth'))
    summaries = [json.loads((tmp_path / run / 'summary.json').read_text()) for run in ('unbroken', 'broken')]
    for key in ('teacher', 'cohort', 'student', 'student_alone', 'selection'):
        assert summaries[0][key] == summaries[1][key]


class Killed(BaseException):
    """Stands for a kill in the middle of an iteration; nothing catches it."""


def batches_of_the_student(config, kill_at: int | None = None) -> list[tuple[int, int]]:
    """Run it, and stop in the student's iteration ``kill_at``: (epoch, index) of the batches before."""
    run_iter, batches = ResumableEpochLoop.run_iter, []

    def noting(loop, idx, data_batch) -> None:
        if hasattr(loop.runner.model, 'student') and not isinstance(loop.runner, RehearsalRunner):
            if loop.iter == kill_at:
                raise Killed
            batches.append((loop.epoch, idx))
        run_iter(loop, idx, data_batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResumableEpochLoop, 'run_iter', noting)
        try:
            RUNNERS.build(config).train()
        except Killed:
            assert kill_at is not None
    return batches


def test_inside_an_epoch(distil_run, tmp_path):
    """Checkpoints every 2 iterations of epochs of 4: the run goes on with the next batch and ends with the
    same weights, although images are augmented at random and the network drops at random. Killed in the
    student's iteration 3 (inside its first epoch) and 6."""

    def config(name, **settings):
        made = distil_run(work_dir=tmp_path / name, probe=None, selector='last', **settings)
        made.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=2)
        made.train_dataloader.dataset.pipeline = [
            dict(type='RandomCrop', crop_size=8, padding=1), dict(type='PackInputs')]
        made.model = vision_transformer(0.2, 0.2)
        return made

    RUNNERS.build(config('unbroken')).train()
    for kill in (3, 6):
        batches_of_the_student(config(f'broken_{kill}'), kill)
        resumed = batches_of_the_student(config(f'broken_{kill}', resume=True))
        # the last checkpoint was written after an even number of iterations
        assert resumed == [(epoch, index) for epoch in range(2) for index in range(4)][kill - kill % 2:]
        assert_same_weights(*(weights_of(tmp_path / name / 'student.pth')
                              for name in ('unbroken', f'broken_{kill}')))


def test_after_the_best_checkpoint_no_epoch_is_skipped(distil_run):
    """CheckpointHook(save_best=...) writes the epoch's checkpoint anew after validation."""
    config = distil_run(train_cfg=dict(max_epochs=3), probe=None, selector='last')
    config.default_hooks.checkpoint.update(save_best='accuracy/top1', rule='greater')
    batches_of_the_student(config, 4)
    config.resume = True
    assert batches_of_the_student(config) == [(epoch, index) for epoch in (1, 2) for index in range(4)]


def test_another_launcher_may_go_on(distil_run):
    """The settings of a stage do not depend on how its processes were started."""
    settings = []
    for launcher in ('none', 'pytorch'):
        run, stages = open_run(distil_run(launcher=launcher))
        settings.append(flatten(stage_of(stages, 'teacher').depends_on(run)))
    assert settings[0] == settings[1]
