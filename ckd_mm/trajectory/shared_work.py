"""Work on every snapshot of a trajectory, shared over the processes of a distributed run."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.dist import all_gather_object, get_rank, get_world_size

from ..errors import CkdError
from .snapshot import Snapshot


def share_snapshots(snapshots: Sequence[Snapshot], measure: Callable[[Snapshot], Any],
                    keep: Callable[[list[Any]], None], log: Callable[[str], None], what: str) -> None:
    """Each process measures every ``world_size``-th snapshot; ``keep`` is called on every process with the
    results of a round, so that they can be written at once. Raises CkdError if it failed in another process,
    and there whatever was raised."""
    rank, world, started = get_rank(), get_world_size(), time.perf_counter()
    for start in range(0, len(snapshots), world):
        result = problem = None
        if start + rank < len(snapshots):
            try:
                result = measure(snapshots[start + rank])
            except Exception as error:  # other processes should neither wait nor lose their results
                problem = error
        text = None if problem is None else f'{type(problem).__name__}: {problem}'
        results, texts = zip(*all_gather_object((result, text)))
        keep([result for result in results if result is not None])
        if problem is not None:
            raise problem
        if any(texts):
            raise CkdError(f'{what} failed in another process: {next(filter(None, texts))}')
        done = start + world
        if done < len(snapshots):
            left = (time.perf_counter() - started) / done * (len(snapshots) - done)
            log(f'{what}: {done}/{len(snapshots)} snapshots, eta {left:.0f} s')
