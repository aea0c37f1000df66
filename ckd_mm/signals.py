"""SIGTERM and SIGUSR1 end a run so that it can go on: slurm and torchrun send them before they kill."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ('SIGTERM', 'SIGUSR1') if hasattr(signal, name)]
STATUS = 75  # EX_TEMPFAIL of sysexits.h: try again later
GOES_ON = '--resume goes on with what is written'
ECHO = 1.0  # seconds in which a second signal is the first: a launcher passes on what its whole group got


class Stopped(SystemExit):
    """A signal has ended the run."""

    def __init__(self, message: str) -> None:
        super().__init__(STATUS)
        self.message = message

    def __str__(self) -> str:
        return self.message


class StopRequest:
    """The first signal that a run gets. What is not made to wait for it ends at once, by :class:`Stopped`; a
    second signal ends anything.

    Attributes:
        signal: its name; None: none came.
        waits: whether what is running looks at ``signal`` itself.
    """

    def __init__(self) -> None:
        self.signal: str | None = None
        self.waits = False
        self._process, self._came = os.getpid(), 0.0

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """The handler."""
        if os.getpid() != self._process:  # a process that was forked off has inherited it
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._came = signal.Signals(number).name, now
            if self.waits:
                return
        elif now - self._came < ECHO:
            return
        raise Stopped(f'{signal.Signals(number).name} ended the run at once; {GOES_ON}')

    @contextlib.contextmanager
    def wait(self) -> Iterator[None]:
        self.waits = True
        try:
            yield
        finally:
            self.waits = False
        if self.signal is not None:  # it came after the last look at it
            raise Stopped(f'{self.signal} ended the run at once; {GOES_ON}')


@contextlib.contextmanager
def listening() -> Iterator[StopRequest]:
    """For signals, in the main thread. A handler of the program that the run is part of stays."""
    request = StopRequest()
    own = SIGNALS if threading.current_thread() is threading.main_thread() else []
    own = [number for number in own if signal.getsignal(number) is signal.SIG_DFL]
    for number in own:
        signal.signal(number, request.receive)
    try:
        yield request
    finally:
        for number in own:
            signal.signal(number, signal.SIG_DFL)


def leave_to_the_main_process() -> None:
    """In a worker of a data loader, without which no step can be finished: it ignores signals to the whole
    process group, but for a second SIGTERM."""
    for number in SIGNALS:
        signal.signal(number, _ignore_once if number == signal.SIGTERM else signal.SIG_IGN)


def _ignore_once(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
