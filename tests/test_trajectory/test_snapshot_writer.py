"""Snapshots that are written while their weights change."""

import errno
import gc
import hashlib
import json
import multiprocessing
import os
import threading
import time

import pytest
import torch

from ckd_mm.errors import CkdError
from ckd_mm.trajectory import SnapshotWriter, Trajectory, finish_writing, snapshot_writer

from ..conftest import resnet
from ..helpers import DIGITS, assert_same_weights, network, with_statistics

MODEL = with_statistics(resnet(2))


class Disk:
    """A disk that stops in the middle of a file until it is told to go on."""

    def __init__(self, monkeypatch) -> None:
        self.arrived, self.go_on = threading.Event(), threading.Event()
        fsync = os.fsync

        def stopping(handle) -> None:
            self.arrived.set()
            assert self.go_on.wait(30)
            fsync(handle)

        monkeypatch.setattr(os, 'fsync', stopping)


@pytest.fixture
def disk(monkeypatch):
    made = Disk(monkeypatch)
    yield made
    made.go_on.set()
    finish_writing()


@pytest.fixture
def writer(tmp_path):
    return SnapshotWriter(Trajectory(tmp_path, (), dict(model=MODEL, classes=list(DIGITS), max_epochs=9)))


def take(writer, taken, epoch: int = 1) -> None:
    writer.write(f'snapshots/epoch_{epoch}.pth', taken, epoch=epoch, iteration=4 * epoch, lr=0.1,
                 seconds=1.5 * epoch, model=MODEL, classes=DIGITS, extra=dict(seed=3))


def manifest(folder) -> list:
    path = folder / 'trajectory.json'
    return json.loads(path.read_text())['snapshots'] if path.exists() else []


def test_file_and_manifest(writer, tmp_path):
    taken = network(MODEL, 1)
    take(writer, taken)
    snapshot = writer.trajectory.last
    file = tmp_path / 'snapshots' / 'epoch_1.pth'
    content = torch.load(file, weights_only=True)
    assert content['meta'] == dict(epoch=1, iter=4, lr=0.1, model=json.loads(json.dumps(MODEL)), seed=3,
                                   dataset_meta=dict(classes=list(DIGITS)))
    assert_same_weights(content['state_dict'], dict(taken.state_dict()))
    data = file.read_bytes()
    assert manifest(tmp_path) == [
        dict(epoch=1, iteration=4, lr=0.1, metrics={}, file='snapshots/epoch_1.pth', size=len(data),
             sha256=hashlib.sha256(data).hexdigest(), seconds=1.5)
    ]
    assert Trajectory.open(tmp_path).last == snapshot
    assert writer.written_meanwhile() == [snapshot] and writer.written_meanwhile() == []


def test_training_goes_on_while_the_disk_is_busy(writer, disk, tmp_path):
    """The weights change, validation reports, and the next snapshot waits for this one."""
    taken = network(MODEL, 1)
    weights = taken.state_dict()
    before = {name: value.clone() for name, value in weights.items()}
    take(writer, taken)
    assert disk.arrived.wait(30)
    for value in weights.values():
        value.add_(1)
    writer.set_metrics(1, {'accuracy/top1': 50.0})
    assert writer.busy and writer.written_meanwhile() == []
    assert manifest(tmp_path) == [] and not (tmp_path / 'snapshots' / 'epoch_1.pth').exists()
    second = threading.Thread(target=take, args=(writer, taken, 2))
    second.start()
    second.join(0.2)
    assert second.is_alive(), 'two snapshots were on their way'
    disk.go_on.set()
    second.join(30)
    writer.close()
    assert not writer.busy
    run = Trajectory.open(tmp_path)
    run.check()
    assert run.epochs == [1, 2] and writer.epochs == {1, 2}
    assert run.at(1).metrics == {'accuracy/top1': 50.0} and run.at(2).metrics == {}
    assert_same_weights(run.at(1).state_dict(), before)
    assert_same_weights(run.at(2).state_dict(), dict(weights))


def test_asking_for_the_trajectory_waits(writer, disk):
    take(writer, network(MODEL, 1))
    threading.Timer(0.2, disk.go_on.set).start()
    assert writer.trajectory.at(1).file.exists()


# ---------------------------------------------------------------- what goes wrong in the thread
def full(monkeypatch, name: str) -> None:
    """No room for the file of this name."""
    replace = os.replace

    def refuse(source, target) -> None:
        if str(target).endswith(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', refuse)


def test_a_full_disk_is_said_by_whatever_comes_next(writer, monkeypatch, tmp_path):
    taken = network(MODEL, 1)
    take(writer, taken, 1)
    writer.wait()
    full(monkeypatch, 'epoch_2.pth')
    take(writer, taken, 2)
    finish_writing()
    monkeypatch.undo()
    message = r'cannot write .*/snapshots/epoch_2\.pth \([\d,]+ bytes\): No space left on device\. Everything written before it is intact'
    for call in (writer.written_meanwhile, writer.wait, writer.close, lambda: writer.trajectory,
                 lambda: writer.set_metrics(2, {}), lambda: take(writer, taken, 3)):
        with pytest.raises(CkdError, match=message):
            call()
    finish_writing()
    assert os.listdir(tmp_path / 'snapshots') == ['epoch_1.pth'
                                                  ] and [entry['epoch']
                                                         for entry in manifest(tmp_path)] == [1]


@pytest.mark.parametrize('heard', [False, True])
def test_a_failure_that_nobody_heard_of_is_logged(tmp_path, monkeypatch, heard):
    said = []
    monkeypatch.setattr(snapshot_writer, 'print_log', lambda message, **settings: said.append(message))
    full(monkeypatch, 'epoch_1.pth')
    writer = SnapshotWriter(Trajectory(tmp_path, (), dict(model=MODEL)))
    take(writer, network(MODEL, 1))
    finish_writing()
    if heard:
        with pytest.raises(CkdError):
            writer.wait()
    del writer
    gc.collect()
    assert [message.split(' (')[0] for message in said] == ['A snapshot was lost: cannot write '
                                                            f'{tmp_path}/snapshots/epoch_1.pth'][heard:]


# ---------------------------------------------------------------- the end of a process
def dies(writer, how) -> None:
    """In another process: take a snapshot on a slow disk and end."""
    fsync = os.fsync
    os.fsync = lambda handle: (time.sleep(0.5), fsync(handle))
    take(writer, network(MODEL, 1))
    how()


def test_a_process_that_dies_of_an_exception_finishes_its_snapshot(writer, tmp_path):
    """multiprocessing ends a process as the interpreter does: it waits for threads that are no daemons."""
    process = multiprocessing.get_context('fork').Process(target=dies, args=(writer, lambda: 1 / 0))
    process.start()
    process.join(60)
    assert process.exitcode == 1
    run = Trajectory.open(tmp_path)
    run.check()
    assert_same_weights(run.last.state_dict(), dict(network(MODEL, 1).state_dict()))


def test_a_process_forked_meanwhile_does_not_wait(writer, disk):
    """As the workers of a data loader: the thread exists in this process alone."""
    take(writer, network(MODEL, 1))
    assert disk.arrived.wait(30)
    worker = multiprocessing.get_context('fork').Process(target=finish_writing)
    worker.start()
    worker.join(20)
    assert worker.exitcode == 0 and writer.busy
