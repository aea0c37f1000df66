"""A log line with the time left, for work that takes longer than some seconds."""

import time
from collections.abc import Callable


class Progress:
    """
    Args:
        log: takes a line.
        what: names the work, say 'Probe: reading images'.
        total: number of steps.
        every: seconds between lines.
    """

    def __init__(self, log: Callable[[str], None], what: str, total: int, every: float = 10.0) -> None:
        self.log, self.what, self.total, self.every = log, what, total, every
        self.done = 0
        self.started = self.logged = time.perf_counter()

    def step(self) -> None:
        self.done += 1
        now = time.perf_counter()
        if now - self.logged >= self.every and self.done < self.total:
            left = (now - self.started) / self.done * (self.total - self.done)
            self.log(f'{self.what} {self.done}/{self.total}, eta {left:.0f} s')
            self.logged = now
