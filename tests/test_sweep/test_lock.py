"""One process at a time."""

import os
import signal
import threading
import time

import pytest

from ckd_mm.sweep.lock import Locked, is_locked, lock


def test_held_once_and_free_again(tmp_path):
    path = tmp_path / 'some' / 'lock'
    assert not is_locked(path)
    with lock(path):
        assert is_locked(path)
        with pytest.raises(Locked, match=f'process {os.getpid()} on .*, since 20'), lock(path):
            raise AssertionError('held twice')
    assert not is_locked(path)
    with lock(path):
        assert path.read_text().count('process') == 1


def test_waits(tmp_path):
    order = []

    def second():
        with lock(tmp_path / 'lock', wait=True):
            order.append('second')

    with lock(tmp_path / 'lock'):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append('first')
    thread.join()
    assert order == ['first', 'second']


def test_who_only_looks_keeps_nobody_out(tmp_path):
    """Another process that asks for the state of a trial just when this one begins it."""
    (tmp_path / 'lock').touch()
    stop = threading.Event()

    def look():
        while not stop.is_set():
            is_locked(tmp_path / 'lock')

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(20):
            with lock(tmp_path / 'lock'):
                pass
    finally:
        stop.set()
        thread.join()


def test_a_killed_process_releases(tmp_path):
    path = tmp_path / 'lock'
    child = os.fork()
    if child == 0:
        with lock(path):
            time.sleep(60)
        os._exit(0)
    while not is_locked(path):
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with lock(path):
        assert f'process {os.getpid()} ' in path.read_text()
