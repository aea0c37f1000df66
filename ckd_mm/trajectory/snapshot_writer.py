"""Writing snapshots while training goes on."""

import logging
import os
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch import nn

from ..errors import CkdError
from .host_memory import HostMemory
from .snapshot import Snapshot, write_snapshot
from .trajectory import Trajectory

# seconds. Pickling needs Python's lock for some milliseconds. Begun at once it would take it from the hook
# that asked for it; a moment later training is inside the next step, most of which does without
HEAD_START = 0.01

# what the writers of this process still have to do; the threads that would do it do not exist in a process
# that is forked off
_pending: set[Future] = set()
os.register_at_fork(after_in_child=_pending.clear)


class SnapshotWriter:
    """Copies weights to the host's memory, where training waits, and writes file and manifest in a thread,
    where it does not.

    One thing is done at a time and in the order in which it was asked for. At most one snapshot is on its
    way: who brings the next waits until the one before is on disk. The manifest names a snapshot only after
    its file is there, whole, so a kill loses the snapshot on its way and nothing else. The interpreter does
    not exit before all is written. The thread neither logs nor computes, so that processes can be forked
    meanwhile (data loaders).

    What goes wrong in the thread is raised by the next call of any method, and by every further one; nothing
    is written any more. If there is no next call, because training died of something else, it is logged at
    the end.

    Args:
        trajectory: the thread changes it; others may look at it after :meth:`wait`.
    """

    def __init__(self, trajectory: Trajectory) -> None:
        self._trajectory = trajectory
        self.epochs = set(trajectory.epochs)
        self._memory = HostMemory()
        # it does one job after the other, is there when it is needed (to start a thread can take longer than
        # to copy the weights), and the interpreter waits for it
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix='ckd_mm snapshots')
        self._last: Future | None = None
        self._snapshot: Future | None = None
        self._written: list[Snapshot] = []
        self._error: Exception | None = None
        self._unsaid: list[str] = []
        weakref.finalize(self, _say, self._unsaid)

    @property
    def trajectory(self) -> Trajectory:
        """With everything that it was given until now."""
        self.wait()
        return self._trajectory

    @property
    def info(self) -> dict[str, Any]:
        """What is true of the whole run."""
        return self._trajectory.info

    @property
    def folder(self) -> Path:
        return self._trajectory.folder

    @property
    def busy(self) -> bool:
        """Whether a snapshot is on its way."""
        return self._snapshot is not None and not self._snapshot.done()

    def write(self, name: str, network: nn.Module, **facts: Any) -> None:
        """Take a snapshot of the network; its weights may change as soon as this returns.

        Args:
            name: of the file, in the trajectory's folder.
            facts: as :func:`write_snapshot` wants them.
        """
        self.wait()
        # nothing is kept of the state dict: to free a tensor gives way to other threads, and the one below
        # would take its time
        weights, events = self._memory.copy(network.state_dict(keep_vars=True))
        self.epochs.add(facts['epoch'])

        def work() -> None:
            time.sleep(HEAD_START)
            for event in events:
                event.synchronize()
            snapshot = write_snapshot(self._trajectory.folder / name, weights, **facts)
            self._trajectory.add(snapshot)
            self._written.append(snapshot)

        self._snapshot = self._start(work)

    def set_metrics(self, epoch: int, metrics: dict[str, float]) -> None:
        """Of a snapshot that is written or on its way."""
        self._raise_failure()
        self._start(lambda: self._trajectory.set_metrics(epoch, metrics))

    def written_meanwhile(self) -> list[Snapshot]:
        """Those that reached the disk since this was last asked. Does not wait."""
        self._raise_failure()
        written = []
        while self._written:
            written.append(self._written.pop(0))
        return written

    def wait(self) -> None:
        """Until all is on disk."""
        if self._last is not None:
            wait([self._last])
        self._raise_failure()

    def close(self) -> None:
        """Wait, and give the memory back."""
        self.wait()
        self._memory.clear()

    def _start(self, work: Callable[[], None]) -> Future:
        _pending.difference_update([future for future in _pending if future.done()])
        self._last = self._thread.submit(self._run, work)
        _pending.add(self._last)
        return self._last

    def _run(self, work: Callable[[], None]) -> None:
        if self._error is None:
            try:
                work()
            except Exception as error:  # the training thread raises it
                self._unsaid.append(
                    str(error) if isinstance(error, CkdError) else f'{type(error).__name__}: {error}')
                self._error = error

    def _raise_failure(self) -> None:
        if self._error is not None:
            self._unsaid.clear()
            raise self._error


def finish_writing() -> None:
    """Wait for the writers of this process, of runs that died, too: before somebody else reads or writes in
    their folders."""
    wait(list(_pending))


def _say(unsaid: list[str]) -> None:
    for text in unsaid:
        print_log(f'A snapshot was lost: {text}', logger='current', level=logging.ERROR)
