"""Work on every snapshot of a trajectory, shared over the processes of a distributed run."""

import time
from typing import Any, Callable, List, Sequence

from mmengine.dist import all_gather_object, get_rank, get_world_size

from .snapshot import Snapshot


def share_snapshots(snapshots: Sequence[Snapshot], measure: Callable[[Snapshot], Any], keep: Callable[[List[Any]], None],
                    log: Callable[[str], None], what: str) -> None:
    """Each process measures every ``world_size``-th snapshot.

    Args:
        measure: called on one process.
        keep: called on every process with the results of a round, so that they can be written down at once.
        what: names the work in log lines.
    """
    rank, world, started = get_rank(), get_world_size(), time.perf_counter()
    for start in range(0, len(snapshots), world):
        mine = snapshots[start + rank] if start + rank < len(snapshots) else None
        found = all_gather_object(None if mine is None else measure(mine))
        keep([result for result in found if result is not None])
        done = min(start + world, len(snapshots))
        if done < len(snapshots):
            spent = time.perf_counter() - started
            log(f'{what}: {done}/{len(snapshots)} snapshots, eta {spent / done * (len(snapshots) - done):.0f} s')
