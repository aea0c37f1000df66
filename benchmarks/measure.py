"""Two contenders timed against each other, on a machine that does other things too."""

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Contender:
    """
    Args:
        step: what is timed, one training step on a batch, say; returns its loss, or another number that says
            what it did.
        batch: makes the collated batch of a step. Not timed, and called for every step: a data loader never
            gives the same batch twice either, and mmpretrain writes into its labels.
    """
    step: Callable[[Any], Tensor]
    batch: Callable[[], Any]


Pair = tuple[Contender, Contender]
FRESH_AFTER = 25  # repetitions


class Ratios(list[float]):
    """Time of one contender over that of another. Of the one alone: ``seconds`` of a step, the mean of each
    repetition, and ``peak_memory`` (:func:`peak_memory`)."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.peak_memory: int | None = None


def paired_ratios(make_pair: Callable[[], Pair], repeats: int, steps: int, device: torch.device,
                  tolerance: float | None = None) -> Ratios:
    """Time of the pair's first contender over time of its second, ``repeats`` times.

    The two halves of a repetition follow each other at once, so that a slow moment of the machine meets both,
    and which goes first alternates. The pair is made anew now and then, so that where one of them happens to
    lie in memory does not decide.

    Args:
        steps: training steps in a half. The device is waited for at its end only, as in training.
        tolerance: relative, see :func:`check_same_work`; None: the contenders do different things and are
            only warmed up.
    """
    ratios, pair = Ratios(), None
    for repeat in range(repeats):
        if repeat % FRESH_AFTER == 0:
            pair = make_pair()
            if tolerance is None:
                for contender in pair:
                    contender.step(contender.batch())
            else:
                check_same_work(pair, tolerance)
        order = (0, 1) if repeat % 2 == 0 else (1, 0)
        seconds = {index: _seconds(pair[index], steps, device) for index in order}
        ratios.append(seconds[0] / seconds[1])
        ratios.seconds.append(seconds[0] / steps)
    pair = None  # makes room on the device
    ratios.peak_memory = peak_memory(make_pair, device)
    return ratios


def peak_memory(make_pair: Callable[[], Pair], device: torch.device) -> int | None:
    """The most bytes that torch's allocator holds in a step of the pair's first contender, while the second
    one is not there. None on a CPU, whose memory torch does not count."""
    if device.type != 'cuda':
        return None
    ours = make_pair()[0]
    ours.step(ours.batch())  # choosing convolutions takes memory of its own
    gc.collect()
    torch.cuda.reset_peak_memory_stats(device)
    ours.step(ours.batch())
    return torch.cuda.max_memory_allocated(device)


def check_same_work(pair: Pair, tolerance: float, steps: int = 3) -> None:
    """The losses of the first steps agree, the later ones only if gradients and optimizer do too. Also the
    warm-up.

    Raises RuntimeError where they do not, so that a ratio of their times would mean nothing.
    """
    for step in range(1, steps + 1):
        losses = [contender.step(contender.batch()).item() for contender in pair]
        if not math.isclose(*losses, rel_tol=tolerance):
            raise RuntimeError(f'the contenders do not do the same work: in step {step} their losses are '
                               f'{losses[0]} and {losses[1]}')


def _seconds(contender: Contender, steps: int, device: torch.device) -> float:
    batches = [contender.batch() for _ in range(steps)]
    wait_for_device(device)
    start = time.perf_counter()
    for batch in batches:
        contender.step(batch)
    wait_for_device(device)
    return time.perf_counter() - start


def wait_for_device(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def summary(ratios: Sequence[float]) -> dict[str, float]:
    """Median and spread, the 10th and 90th percentile."""
    low, median, high = np.percentile(ratios, [10, 50, 90])
    return dict(median=float(median), low=float(low), high=float(high), n=len(ratios))
