"""Runs that are killed and resumed: every checkpoint has its snapshot, the same as in an unbroken run."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from ckd_mm.errors import CkdError
from ckd_mm.trajectory import Trajectory

from ..faults.test_killed_anywhere import in_process
from ..helpers import assert_same_weights, train
from .conftest import killed


def run_of(digits_run, work_dir, *hooks, epochs: int = 3, **settings):
    """Resumed exactly: no augmentation, data in this process, random state in the checkpoints. Of four
    iterations an epoch."""
    config = digits_run(epochs=epochs, work_dir=work_dir, images=16, batch=4, **settings)
    snapshots = dict(type='ckd_mm.SnapshotHook', interval=1, ema=bool(hooks))
    config.custom_hooks = [*hooks, snapshots, dict(type='ckd_mm.StageStateHook')]
    config.train_cfg = dict(type='ckd_mm.ResumableEpochLoop', max_epochs=epochs)
    config.param_scheduler = dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=12)
    return config


def as_unbroken(config, other) -> None:
    """Every snapshot, its facts and the end of the run."""
    runs = [Trajectory.open(folder.work_dir) for folder in (config, other)]
    for left, right in zip(*runs):
        assert_same_weights(left.state_dict(), right.state_dict())
        for fact in ('epoch', 'iteration', 'lr', 'metrics'):
            assert getattr(left, fact) == getattr(right, fact)
        assert left.lr is not None and left.metrics
    assert runs[0].times == runs[1].times
    seconds = [snapshot.seconds for snapshot in runs[0]]
    assert seconds == sorted(seconds)


def dies_half_way(handle, sync=os.fsync) -> None:
    """Instead of ``os.fsync``: half of the second snapshot is on disk, and its process killed."""
    path = os.readlink(f'/proc/self/fd/{handle}')
    if '.epoch_2.pth.' in path:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    sync(handle)


def checkpoints(folder: Path) -> set:
    matches = [re.fullmatch(r'epoch_(\d+)\.pth', file.name) for file in folder.iterdir()]
    return {int(match[1]) for match in matches if match}


def check_promise(folder: Path) -> None:
    """Checkpoints may be unfinished, snapshots not."""
    if (folder / 'trajectory.json').exists():
        run = Trajectory.from_manifest(folder / 'trajectory.json')
        run.check()
        assert checkpoints(folder) <= set(run.times)
    else:
        assert not checkpoints(folder)


def test_killed_at_any_write(digits_run, tmp_path, monkeypatch):
    """Of averaged weights; of the others: tests/faults/test_killed_anywhere.py."""
    averaged = dict(type='EMAHook', momentum=0.3)
    other = run_of(digits_run, tmp_path / 'unbroken', averaged, epochs=2)
    assert in_process(other, -1, tmp_path / 'seen.json') == 0
    seen = json.loads((tmp_path / 'seen.json').read_text())
    # mmengine cannot read its note of the last checkpoint half written; our runner can: test_killed_anywhere
    kills = [index for index, what in enumerate(seen) if 'last_checkpoint' not in what]
    assert sum('snapshots/.epoch_' in seen[index] for index in kills) == 4
    for kill in [*kills, -1]:
        config = run_of(digits_run, tmp_path / f'broken_{kill}', averaged, epochs=2)
        folder = Path(config.work_dir)
        with monkeypatch.context() as patch:
            if kill == -1:
                patch.setattr(os, 'fsync', dies_half_way)
            assert in_process(config, kill) == -signal.SIGKILL
        check_promise(folder)
        first = folder / 'snapshots' / 'epoch_1.pth'
        written = first.stat().st_mtime_ns if (folder / 'last_checkpoint').exists() else None
        config.resume = True
        train(config)
        check_promise(folder)
        as_unbroken(config, other)
        assert written in (None, first.stat().st_mtime_ns)
        assert sorted(os.listdir(folder / 'snapshots')) == ['epoch_1.pth', 'epoch_2.pth']


def test_resumed_at_the_end_of_an_epoch(digits_run, tmp_path):
    """From a checkpoint of its last iteration: none is left in which to note the snapshot's learning rate."""
    config, other = (run_of(digits_run, tmp_path / name) for name in ('broken', 'unbroken'))
    for one in (config, other):
        one.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=4,
                                            max_keep_ckpts=-1)
    train(other)
    config = killed(config, 8)
    assert Trajectory.open(config.work_dir).times == [1] and (tmp_path / 'broken' / 'iter_8.pth').exists()
    train(config)
    as_unbroken(config, other)


def test_what_was_not_finished_is_removed(digits_run, tmp_path):
    config = run_of(digits_run, tmp_path / 'run', epochs=1)
    files = [tmp_path / 'run' / f'{name}.1a2b.tmp'
             for name in ('.trajectory.json', 'snapshots/.epoch_1.pth', '.information_plane.json')]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    train(config)
    assert [file.exists() for file in files] == [False, False, True]  # somebody may be writing the last


@pytest.mark.parametrize('where', ['here', 'moved', 'out_dir'])
def test_lost_snapshots_are_named_before_training(digits_run, tmp_path, where):
    """And nothing in the folder is touched."""
    config = run_of(digits_run, tmp_path / 'run')
    if where == 'out_dir':
        config.default_hooks.checkpoint.out_dir = str(tmp_path / 'scratch')
    train(config)
    folder = tmp_path / 'run'
    if where == 'moved':
        folder = folder.rename(tmp_path / 'moved')
        config.work_dir, config.load_from = str(folder), str(folder / 'epoch_3.pth')
    manifest, unfinished = folder / 'trajectory.json', folder / 'snapshots' / '.epoch_4.pth.1a2b.tmp'
    found = json.loads(manifest.read_text())
    del found['snapshots'][0]
    manifest.write_text(json.dumps(found))
    unfinished.touch()
    config.resume, config.train_cfg.max_epochs = True, 5
    with pytest.raises(CkdError, match=r'the snapshots of epochs \[1\], which were on disk when this run'):
        train(config)
    assert json.loads(manifest.read_text()) == found and unfinished.exists()
    assert not list(tmp_path.rglob('epoch_4.pth'))


def test_a_lost_file_is_a_lost_snapshot(digits_run, tmp_path):
    config = run_of(digits_run, tmp_path / 'run', epochs=2)
    train(config)
    (tmp_path / 'run' / 'snapshots' / 'epoch_1.pth').unlink()
    config.resume, config.train_cfg.max_epochs = True, 3
    with pytest.raises(CkdError, match=r'the snapshots of epochs \[1\], which were on disk'):
        train(config)


@pytest.mark.parametrize('case', ['the hook is new', 'a second hook is new', 'into another folder'])
def test_where_none_was_lost_it_is_a_warning(digits_run, tmp_path, case):
    """And the snapshots that there are stay where they are."""
    config = run_of(digits_run, tmp_path / 'run', epochs=2)
    hooks, folder = config.custom_hooks, tmp_path / 'run'
    if case == 'the hook is new':
        config.custom_hooks = hooks[1:]
    train(config)
    config.resume, config.train_cfg.max_epochs, config.custom_hooks = True, 3, hooks
    if case == 'a second hook is new':
        folder = tmp_path / 'second'
        config.custom_hooks = [*hooks, dict(type='ckd_mm.SnapshotHook', interval=1, out_dir=str(folder))]
    elif case == 'into another folder':
        folder = tmp_path / 'new'
        config.update(load_from=str(tmp_path / 'run' / 'epoch_2.pth'), work_dir=str(folder))
    runner = train(config)
    assert Trajectory.open(folder).times == [3]
    logs = ''.join(path.read_text() for path in Path(runner.work_dir).glob('*/*.log'))
    assert logs.count('The snapshots of epochs [1, 2] are missing and training is past them') == 1
    if case != 'the hook is new':
        kept = [1, 2, 3] if 'second' in case else [1, 2]
        assert Trajectory.open(tmp_path / 'run').times == kept
