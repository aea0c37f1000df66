"""One run owns its folder: a second one is refused, and a run that was killed is in nobody's way."""

import fcntl
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
import torch
from mmengine.registry import RUNNERS

from ckd_mm.errors import CkdError
from ckd_mm.pipeline import owner
from ckd_mm.pipeline.owner import owner_of, owning

from ..helpers import in_two_processes

FORK, HOST = multiprocessing.get_context('fork'), socket.gethostname()


@pytest.fixture
def start():
    """Do something in a process of its own; those that are left are killed."""
    processes = []

    def start(work, *arguments):
        processes.append(FORK.Process(target=work, args=arguments))
        processes[-1].start()
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.join()


def until(ready) -> None:
    started = time.monotonic()
    while not ready():
        assert time.monotonic() - started < 60
        time.sleep(0.01)


def hold(folder, workers: int = 0) -> None:
    """Own it for a minute, with forked workers that outlive this process, as those of a data loader."""
    with owning(folder):
        pids = []
        for _ in range(workers):
            pids.append(os.fork())
            if not pids[-1]:
                time.sleep(60)
                os._exit(0)
        Path(folder, 'workers').write_text(json.dumps(pids))
        time.sleep(60)


def test_a_second_run_is_refused(start, distil_run, tool, tmp_path):
    """In one line that names the first, at once and before anything is written, by whatever path."""
    folder, link = tmp_path / 'run', tmp_path / 'link'
    process = start(hold, folder)
    until((folder / 'workers').exists)
    link.symlink_to(folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    started = time.monotonic()
    for path in (folder, link, os.path.relpath(folder)):
        with pytest.raises(CkdError) as error:
            RUNNERS.build(distil_run(work_dir=path)).train()
        assert re.fullmatch(rf'work_dir=.* is in use by another run: process {process.pid} on {HOST}, since '
                            r'\d{4}-.*; nothing was written', str(error.value))
    assert time.monotonic() - started < 5
    status, _, err = tool('trajectory.py', 'repair', folder)
    assert status == 1 and 'is in use by another run' in err
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_killed_run_blocks_nobody(start, tmp_path):
    """Though its forked workers live on."""
    process = start(hold, tmp_path, 2)
    until(lambda: (tmp_path / 'workers').exists() and (tmp_path / 'workers').read_text())
    workers = json.loads((tmp_path / 'workers').read_text())
    process.kill()
    process.join()
    started = time.monotonic()
    with owning(tmp_path) as warning:
        assert warning is None and time.monotonic() - started < 1
        assert owner_of(tmp_path)['process'] == os.getpid()
    for worker in workers:
        os.kill(worker, signal.SIGKILL)  # raises where it was not alive


def test_a_lock_that_its_dead_owner_left(start, tmp_path, monkeypatch):
    """Say of a file server: it is waited for."""

    def keep(seconds: float) -> None:
        file = (tmp_path / owner.LOCK).open('w')
        fcntl.flock(file, fcntl.LOCK_EX)
        (tmp_path / 'kept').write_text('')
        time.sleep(seconds)

    dead = start(lambda: None)
    dead.join()
    (tmp_path / owner.OWNER).write_text(json.dumps(dict(host=HOST, process=dead.pid, since='')))
    start(keep, 1.0)
    until((tmp_path / 'kept').exists)
    started = time.monotonic()
    with owning(tmp_path) as warning:
        assert warning is None and time.monotonic() - started > 0.5
    (tmp_path / 'kept').unlink()
    (tmp_path / owner.OWNER).write_text(json.dumps(dict(host='another', process=1, since='yesterday')))
    start(keep, 60)
    until((tmp_path / 'kept').exists)
    monkeypatch.setattr(owner, 'PATIENCE', 0.5)
    with pytest.raises(CkdError, match='process 1 on another, since yesterday'), owning(tmp_path):
        pass


def test_after_its_end_the_next_run_comes(tmp_path):
    with pytest.raises(KeyboardInterrupt), owning(tmp_path):
        raise KeyboardInterrupt
    with owning(tmp_path):
        pass


def test_a_file_system_without_locks(distil_run, tmp_path, monkeypatch):
    """Costs no run: there is one warning."""

    def no_locks(*_) -> None:
        raise OSError(37, 'No locks available')

    monkeypatch.setattr(fcntl, 'flock', no_locks)
    RUNNERS.build(distil_run(teacher=None, probe=None, selector='last', distill=None)).train()
    log = (tmp_path / 'run' / 'ckd_mm.log').read_text()
    assert log.count('cannot be locked (OSError: [Errno 37] No locks available)') == 1


def test_two_processes_are_one_run(tmp_path):

    def work() -> tuple:
        torch.distributed.init_process_group('gloo')
        with owning(tmp_path):
            return owner_of(tmp_path)['process'], os.getpid()

    (first, own), (second, _) = in_two_processes(work)
    assert first == second == own


def test_the_name_for_files_elsewhere(tmp_path):
    """Stays over restarts, and when the folder is moved; a copy, or a file that was changed, gets another."""

    def name(folder) -> str:
        with owning(folder):
            return owner_of(folder)['name']

    run = tmp_path / 'run'
    first = name(run)
    assert re.fullmatch('run-[0-9a-f]{8}', first) and name(run) == first
    copied = shutil.copytree(run, tmp_path / 'copy')
    own = name(copied)
    assert own != first and name(copied) == own and name(run) == first
    assert name(run.rename(tmp_path / 'moved')) == first
    (copied / owner.OWNER).write_text(json.dumps(dict(name='../run-00000000', work_dir=5)))
    assert re.fullmatch('copy-[0-9a-f]{8}', name(copied))
