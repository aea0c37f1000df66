"""Runs that are killed while a snapshot is being written, and resumed."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from ckd_mm import files
from ckd_mm.errors import CkdError
from ckd_mm.trajectory import Trajectory, finish_writing

from ..helpers import assert_same_weights, train


def run_of(digits_run, work_dir, *hooks, epochs: int = 3, interval: int = 1, **settings):
    """A run that loses nothing when it is killed: augmentation-free, data in this process, random state in
    the checkpoints."""
    config = digits_run(epochs=epochs, work_dir=work_dir, **settings)
    config.custom_hooks = [
        *hooks, dict(type='ckd_mm.SnapshotHook', interval=interval, ema=bool(hooks)),
        dict(type='ckd_mm.StageStateHook')
    ]
    config.train_cfg = dict(type='ckd_mm.ResumableEpochLoop', max_epochs=epochs)
    config.param_scheduler = dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=12)
    return config


def dies_in(config, point: str, checkpoint: str) -> None:
    """Train, and get killed at that point of writing epoch 2's snapshot, when mmengine's ``checkpoint`` is on
    disk."""
    folder = Path(config.work_dir)
    snapshot, last = folder / 'snapshots' / 'epoch_2.pth', folder / 'last_checkpoint'
    write, replace = files.HashedFile.write, os.replace

    def kill() -> None:
        while not (last.exists() and last.read_text().endswith(checkpoint)):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    def killing_write(file, data) -> int:
        if point == 'inside the file' and 'epoch_2.pth' in file._file.name and file.size > 5000:
            file._file.flush()
            kill()
        return write(file, data)

    def killing_replace(source, target) -> None:
        here = Path(target) == snapshot, Path(target).name == 'trajectory.json' and snapshot.exists()
        if (point == 'before the file appears' and here[0]) or (point == 'before the manifest' and here[1]):
            kill()
        replace(source, target)
        if point == 'after the manifest' and here[1]:
            kill()

    files.HashedFile.write, os.replace = killing_write, killing_replace
    train(config)


def killed(work, *arguments) -> None:
    """Do it in a process that must end by SIGKILL."""
    process = multiprocessing.get_context('fork').Process(target=work, args=arguments)
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


POINTS = {
    'inside the file': [1], 'before the file appears': [1], 'before the manifest': [1],
    'after the manifest': [1, 2]
}


def as_unbroken(config, other) -> None:
    """Every snapshot, its facts and the end of the run."""
    runs = [Trajectory.open(folder.work_dir) for folder in (config, other)]
    for left, right in zip(*runs):
        assert_same_weights(left.state_dict(), right.state_dict())
        assert (left.epoch, left.iteration, left.lr, left.metrics) == (right.epoch, right.iteration, right.lr,
                                                                       right.metrics)
        assert left.lr is not None and left.metrics
    assert runs[0].epochs == runs[1].epochs
    seconds = [snapshot.seconds for snapshot in runs[0]]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize('hooks', [(), (dict(type='EMAHook', momentum=0.3), )], ids=['', 'averaged'])
@pytest.mark.parametrize('point', POINTS)
def test_killed_while_a_snapshot_is_written(digits_run, tmp_path, point, hooks):
    """The checkpoint of the same epoch is there already. What is on disk is whole, and the resumed run ends
    as if nothing had been."""
    config, other = (run_of(digits_run, tmp_path / name, *hooks) for name in ('broken', 'unbroken'))
    killed(dies_in, config, point, 'epoch_2.pth')
    run = Trajectory.open(config.work_dir)
    run.check()
    assert run.epochs == POINTS[point]
    files = set(os.listdir(tmp_path / 'broken' / 'snapshots'))
    leftover = {name for name in files if name.endswith('.tmp')}
    assert files - leftover == {f'epoch_{epoch}.pth' for epoch in (1, 2)[:1 + ('manifest' in point)]}
    assert bool(leftover) == (point in ('inside the file', 'before the file appears'))
    before = (tmp_path / 'broken' / 'snapshots' / 'epoch_1.pth').stat().st_mtime_ns

    config.resume = True
    train(config)
    assert (tmp_path / 'broken' / 'snapshots' / 'epoch_1.pth').stat().st_mtime_ns == before
    assert sorted(os.listdir(
        tmp_path / 'broken' / 'snapshots')) == ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth']
    train(other)
    as_unbroken(config, other)
    Trajectory.open(config.work_dir).check()


def test_killed_in_the_last_epoch(digits_run, tmp_path):
    """Nothing is left to train, and the last snapshot is taken all the same, with the seconds that the
    checkpoint remembers."""
    config, other = (run_of(digits_run, tmp_path / name, epochs=2) for name in ('broken', 'unbroken'))
    killed(dies_in, config, 'inside the file', 'epoch_2.pth')
    taken = torch.load(tmp_path / 'broken' / 'epoch_2.pth', weights_only=False)['ckd_mm_snapshot']['taken']
    config.resume = True
    train(config)
    train(other)
    as_unbroken(config, other)
    assert Trajectory.open(config.work_dir).last.seconds == taken['seconds'] > 0


# ---------------------------------------------------------------- checkpoints that cannot bring the snapshot
# back
class Slow:
    """From now on a snapshot takes its time, and says when it is on disk."""

    def __init__(self, monkeypatch, seconds: float = 0.3) -> None:
        self.log = []
        replace, fsync = os.replace, os.fsync

        def slow(handle) -> None:
            if 'epoch_' in os.readlink(f'/proc/self/fd/{handle}'):
                time.sleep(seconds)
            fsync(handle)

        def noting(source, target) -> None:
            replace(source, target)
            if Path(target).parent.name == 'snapshots':
                self.log.append(f'snapshot {Path(target).stem}')

        monkeypatch.setattr(os, 'fsync', slow)
        monkeypatch.setattr(os, 'replace', noting)


class Note(Hook):
    """Notes when something happened."""
    priority = 'LOWEST'

    def __init__(self, log: list) -> None:
        self.log = log

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.log.append(f'iteration {runner.iter + 1}')

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        self.log.append(f'checkpoint {checkpoint["meta"]["iter"]}')

    def after_train(self, runner) -> None:
        self.log.append('end')


@pytest.mark.parametrize(
    'checkpoints, expected', [
        # the checkpoint of the same epoch need not wait, that of the next one must: it could not bring the
        # snapshot back
        (dict(interval=1),
         ['checkpoint 2', 'iteration 3', 'iteration 4', 'snapshot epoch_1', 'checkpoint 4', 'end']),
        (dict(interval=3,
              by_epoch=False), ['iteration 3', 'snapshot epoch_1', 'checkpoint 3', 'iteration 4', 'end']),
        # nobody waits but the end
        (dict(interval=9), ['iteration 3', 'iteration 4', 'snapshot epoch_1', 'end']), ])
def test_who_waits_for_the_snapshot(digits_run, monkeypatch, checkpoints, expected):
    slow = Slow(monkeypatch)
    config = digits_run(epochs=2, images=32, custom_hooks=[dict(type='ckd_mm.SnapshotHook', epochs=[1])])
    config.default_hooks.checkpoint = dict(type='CheckpointHook', save_last=False, **checkpoints)
    train(config, Note(slow.log))
    log = [what for what in slow.log if what not in ('iteration 1', 'iteration 2')]
    if 'by_epoch' in checkpoints:  # CheckpointHook comes before the note
        log.remove('iteration 3')
        expected = [what for what in expected if what != 'iteration 3']
    assert log == expected


def test_of_two_hooks_the_second_waits(digits_run, tmp_path, monkeypatch):
    """A checkpoint has room for what one of them needs."""
    slow = Slow(monkeypatch)
    config = digits_run(epochs=1, images=16, custom_hooks=[
                            dict(type='ckd_mm.SnapshotHook', interval=1),
                            dict(type='ckd_mm.SnapshotHook', interval=1, out_dir=str(tmp_path / 'second'))
                        ])
    train(config, Note(slow.log))
    assert slow.log.index('checkpoint 1') > slow.log.index('snapshot epoch_1')
    second = torch.load(tmp_path / 'second' / 'snapshots' / 'epoch_1.pth', weights_only=True)['state_dict']
    assert_same_weights(Trajectory.open(config.work_dir).last.state_dict(), second)


def test_the_next_snapshot_waits_and_it_is_said_once(digits_run, monkeypatch):
    slow = Slow(monkeypatch, 0.2)
    config = digits_run(epochs=4, images=16, custom_hooks=[dict(type='ckd_mm.SnapshotHook', interval=1)])
    config.default_hooks.checkpoint = None
    runner = train(config, Note(slow.log))
    assert [what for what in slow.log
            if 'iteration' not in what] == [f'snapshot epoch_{epoch}' for epoch in (1, 2, 3, 4)] + ['end']
    log = next(Path(runner.work_dir).glob('*/*.log')).read_text()
    assert log.count('waits until the one before is on disk') == log.count(
        'The snapshot of epoch 2 waits') == 1
    run = Trajectory.open(runner.work_dir)
    run.check()
    for snapshot in run:
        assert log.count(f'Snapshot of epoch {snapshot.epoch}: {snapshot.file} (0.0 MiB)') == 1
        assert snapshot.accuracy is not None


def test_training_dies_and_the_snapshot_is_finished(digits_run, monkeypatch):
    """And a run of the same process that goes on from there waits for it: two would write one manifest."""
    slow = Slow(monkeypatch, 0.5)

    class Dies(Hook):

        def before_train_epoch(self, runner):
            if runner.epoch == 1:
                raise ZeroDivisionError

    config = digits_run(epochs=2, images=16, custom_hooks=[dict(type='ckd_mm.SnapshotHook', interval=1)])
    with pytest.raises(ZeroDivisionError):
        train(config, Dies())
    assert slow.log == []
    config.resume = True
    train(config)
    assert slow.log == ['snapshot epoch_1', 'snapshot epoch_2']
    assert Trajectory.open(config.work_dir).epochs == [1, 2]


def test_data_loaders_fork_while_a_snapshot_is_written(digits_run, monkeypatch):
    Slow(monkeypatch)
    config = digits_run(epochs=3, images=16, custom_hooks=[dict(type='ckd_mm.SnapshotHook', interval=1)])
    config.train_dataloader.update(num_workers=2, persistent_workers=False)
    config.default_hooks.checkpoint = None
    runner = train(config)
    run = Trajectory.open(runner.work_dir)
    run.check()
    assert run.epochs == [1, 2, 3] and runner.iter == 3


# ---------------------------------------------------------------- resumed otherwise
def test_resumed_at_the_end_of_an_epoch(digits_run, tmp_path, monkeypatch):
    """From a checkpoint of its last iteration, written before the snapshot was taken: no iteration is left to
    ask for the rate."""
    config, other = (run_of(digits_run, tmp_path / name) for name in ('broken', 'unbroken'))
    for one in (config, other):
        one.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=4,
                                            max_keep_ckpts=-1)
    train(other)

    class Killed(BaseException):
        pass

    class Dies(Hook):
        priority = 'HIGH'

        def after_train_epoch(self, runner):
            if runner.epoch == 1:
                raise Killed

    with pytest.raises(Killed):
        train(config, Dies())
    finish_writing()
    assert Trajectory.open(config.work_dir).epochs == [1] and (tmp_path / 'broken' / 'iter_8.pth').exists()
    config.resume = True
    train(config)
    as_unbroken(config, other)


def test_snapshots_that_cannot_be_taken_again_are_named(digits_run):
    """The hook came into the run later than the checkpoints."""
    config = digits_run(epochs=2, images=16)
    train(config)
    config.update(resume=True, custom_hooks=[dict(type='ckd_mm.SnapshotHook', interval=1)])
    config.train_cfg.max_epochs = 3
    runner = train(config)
    assert Trajectory.open(runner.work_dir).epochs == [3]
    logs = ''.join(path.read_text() for path in Path(runner.work_dir).glob('*/*.log'))
    assert logs.count('The snapshots of epochs [1, 2] are missing and training is past them; to have them, '
                      'start anew') == 1


def test_the_plane_is_measured_from_the_snapshot_just_taken(digits_run, monkeypatch):
    """InfoPlaneHook reads the file, so it waits for it."""
    slow = Slow(monkeypatch)
    config = digits_run(epochs=1, images=64)
    config.custom_hooks = [
        dict(type='ckd_mm.SnapshotHook', interval=1),
        dict(type='ckd_mm.InfoPlaneHook', held_out=16, decoder_epochs=1, decoder_batch=8, figure=False)
    ]
    runner = train(config)
    assert slow.log == ['snapshot epoch_1']
    point, = json.loads((Path(runner.work_dir) / 'information_plane.json').read_text())['points']
    assert point['epoch'] == 1


def test_taken_again_after_a_hook_that_changes_the_network(digits_run, tmp_path):
    """PreciseBNHook measures the statistics anew at the end of an epoch: the checkpoint has those, and so has
    the snapshot."""
    config, other = (run_of(digits_run, tmp_path / name) for name in ('broken', 'unbroken'))
    for made in (config, other):
        made.custom_hooks.insert(1, dict(type='mmpretrain.PreciseBNHook', num_samples=32))
    killed(dies_in, config, 'inside the file', 'epoch_2.pth')
    config.resume = True
    train(config)
    train(other)
    as_unbroken(config, other)


def log_of(runner) -> str:
    return next(Path(runner.work_dir).glob('*/*.log')).read_text()


MISSING = 'The snapshots of epochs [{}] are missing and training is past them; to have them, start anew'


@pytest.mark.parametrize('moved', [False, True], ids=['', 'moved'])
def test_what_was_lost_is_said_before_training(digits_run, tmp_path, moved):
    """And nothing in the folder is touched."""
    config = run_of(digits_run, tmp_path / 'run')
    train(config)
    finish_writing()
    folder = tmp_path / 'run'
    if moved:
        folder = folder.rename(tmp_path / 'moved')
        config.work_dir, config.load_from = str(folder), str(folder / 'epoch_3.pth')
    manifest, unfinished = folder / 'trajectory.json', folder / 'snapshots' / '.epoch_4.pth.1a2b.tmp'
    found = json.loads(manifest.read_text())
    found['snapshots'] = [
        dict(entry, epoch=7) if entry['epoch'] == 1 else entry for entry in found['snapshots']
    ]
    manifest.write_text(json.dumps(found))
    unfinished.touch()
    config.resume, config.train_cfg.max_epochs = True, 5
    with pytest.raises(CkdError, match=r'has no snapshots of epochs \[1\], which were on disk when this run '
                                       r'stopped'):
        train(config)
    assert json.loads(
        manifest.read_text()) == found and unfinished.exists() and not (folder / 'epoch_4.pth').exists()


def test_what_was_not_finished_is_removed(digits_run, tmp_path):
    config = run_of(digits_run, tmp_path / 'run', epochs=1)
    unfinished = [
        tmp_path / 'run' / '.trajectory.json.1a2b.tmp',
        tmp_path / 'run' / 'snapshots' / '.epoch_1.pth.1a2b.tmp'
    ]
    other = tmp_path / 'run' / '.information_plane.json.1a2b.tmp'  # somebody may be writing it
    for file in (*unfinished, other):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    train(config)
    assert other.exists() and not any(file.exists() for file in unfinished)


def test_resumed_into_another_folder(digits_run, tmp_path):
    """The snapshots are where the run began. None of them is lost."""
    config = run_of(digits_run, tmp_path / 'old', epochs=2)
    train(config)
    config.update(resume=True, load_from=str(tmp_path / 'old' / 'epoch_2.pth'),
                  work_dir=str(tmp_path / 'new'))
    config.train_cfg.max_epochs = 3
    runner = train(config)
    assert Trajectory.open(tmp_path / 'old').epochs == [1, 2] and Trajectory.open(
        tmp_path / 'new').epochs == [2, 3]
    assert log_of(runner).count(MISSING.format(1)) == 1


@pytest.mark.parametrize('known', [True, False], ids=['', 'checkpoints of an earlier version'])
def test_a_second_hook_comes_into_a_resumed_run(digits_run, tmp_path, known):
    """A checkpoint says which snapshots there are of the first one; those written before it said where are
    read, too."""
    config = run_of(digits_run, tmp_path / 'run', epochs=2)
    train(config)
    if not known:
        file = tmp_path / 'run' / 'epoch_2.pth'
        checkpoint = torch.load(file, weights_only=False)
        del checkpoint['ckd_mm_snapshot']['folder']
        torch.save(checkpoint, file)
    config.resume, config.train_cfg.max_epochs = True, 3
    config.custom_hooks.append(dict(type='ckd_mm.SnapshotHook', interval=1, out_dir=str(tmp_path / 'second')))
    runner = train(config)
    assert Trajectory.open(tmp_path / 'run').epochs == [1, 2, 3] and Trajectory.open(
        tmp_path / 'second').epochs == [2, 3]
    logs = ''.join(path.read_text() for path in Path(runner.work_dir).glob('*/*.log'))
    assert logs.count(MISSING.format(1)) == 1
