"""Who gets a signal, and what it does; whole runs: tests/faults/signals.py."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ckd_mm import signals
from ckd_mm.signals import STATUS, Stopped, leave_to_the_main_process, listening

from .conftest import ROOT, digits_config


@pytest.mark.parametrize('number', signals.SIGNALS)
def test_at_once_or_when_asked(number):
    with pytest.raises(Stopped, match=f'^{number.name} ended the run at once') as stopped, listening():
        os.kill(os.getpid(), number)
    assert stopped.value.code == STATUS == 75
    with pytest.raises(Stopped, match=f'^{number.name} ended the run at once'), listening() as request:
        with request.wait():
            os.kill(os.getpid(), number)
            assert request.signal == number.name
        raise AssertionError('a signal that nobody looked at is not lost')
    assert signal.getsignal(number) is signal.SIG_DFL


def test_the_second_ends_at_once(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    ends = pytest.raises(Stopped, match='^SIGUSR1 ended the run at once')
    with ends, listening() as request, request.wait():
        os.kill(os.getpid(), signal.SIGTERM)
        now[0] += signals.ECHO / 2
        os.kill(os.getpid(), signal.SIGTERM)  # the same, from a launcher and to its process group
        now[0] += signals.ECHO
        assert request.signal == 'SIGTERM'
        os.kill(os.getpid(), signal.SIGUSR1)
        raise AssertionError('not ended')


def test_an_error_is_not_hidden():
    with pytest.raises(ValueError, match='planted'), listening() as request, request.wait():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError('planted')


def test_handlers_of_the_program_around_stay():
    got = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: got.append(number))
    try:
        with listening() as request:
            os.kill(os.getpid(), signal.SIGUSR1)
        assert got == [signal.SIGUSR1] and request.signal is None
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_other_threads_have_none():
    found = []

    def listen() -> None:
        with listening():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]


def exit_code(work, *numbers: int) -> int:
    """Of a process that is forked off while the run listens, and gets these signals."""
    context = multiprocessing.get_context('fork')
    with listening() as request, request.wait():
        ready = context.Event()
        process = context.Process(target=work, args=(ready, ))
        process.start()
        ready.wait()
        for number in numbers:
            os.kill(process.pid, number)
            time.sleep(0.1)
        process.join(30)
    return process.exitcode


def any_work(ready) -> None:
    ready.set()
    time.sleep(1)


def work_of_a_loader(ready) -> None:
    leave_to_the_main_process()
    any_work(ready)


@pytest.mark.parametrize('work, numbers, code', [
    (any_work, [signal.SIGTERM], -signal.SIGTERM), (any_work, [signal.SIGUSR1], -signal.SIGUSR1),
    (work_of_a_loader, [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR1], 0),
    (work_of_a_loader, [signal.SIGTERM, signal.SIGTERM], -signal.SIGTERM)])
def test_processes_that_are_forked_off(work, numbers, code):
    """They can be ended as usual, but those of data loaders do not end with the first signal to the whole
    process group."""
    assert exit_code(work, *numbers) == code


def is_caught(process: subprocess.Popen, number: int) -> bool:
    """Whether the process has a handler of its own for a signal."""
    status = Path(f'/proc/{process.pid}/status').read_text()
    return bool(int(re.search(r'SigCgt:\s*(\w+)', status)[1], 16) >> (number - 1) & 1)


@pytest.fixture
def training(tmp_path):
    """tools/train.py in a process of its own, which would train for minutes."""
    digits_config(tmp_path / 'run', epochs=2000, runner_type='ckd_mm.CheckpointDistillRunner', teacher=None,
                  rehearsal=False, val_cfg=None, val_dataloader=None,
                  val_evaluator=None).dump(tmp_path / 'config.py')
    with subprocess.Popen([sys.executable, ROOT / 'tools' / 'train.py', tmp_path / 'config.py'], text=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.mark.parametrize('number', signals.SIGNALS)
def test_before_anything_is_imported(training, tmp_path, number):
    while not is_caught(training, number):
        assert training.poll() is None
        time.sleep(0.001)
    training.send_signal(number)
    _, error = training.communicate(timeout=60)
    assert training.returncode == STATUS
    assert error == (f'{number.name} ended the run before its start; the same command starts it again '
                     '(exit status 75)\n')
    assert not (tmp_path / 'run').exists()


def test_in_a_training(training, tmp_path):
    while not (tmp_path / 'run' / 'student' / 'epoch_1.pth').exists():
        assert training.poll() is None
        time.sleep(0.01)
    training.send_signal(signal.SIGUSR1)
    training.communicate(timeout=60)
    assert training.returncode == STATUS
    line = (tmp_path / 'run' / 'ckd_mm.log').read_text().splitlines()[-1]
    written, = (tmp_path / 'run' / 'student').glob('iter_*.pth')
    assert f'student/{written.name}; --resume goes on with it (exit status 75)' in line
