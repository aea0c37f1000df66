"""Which part of a sweep this process does."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import ConfigError


class Shard(NamedTuple):
    """Process ``index`` (from 0) of ``total``; ``local``: its place among those of its machine, which chooses
    its GPU."""
    index: int = 0
    total: int = 1
    local: int = 0

    def owns(self, trial: int) -> bool:
        """Whether the ``trial``-th trial is this process's: of each it is exactly one."""
        return trial % self.total == self.index


def shard_of(text: str | None, environment: Mapping[str, str]) -> Shard:
    """
    Args:
        text: 'i/n', i from 0; None: as torchrun (``RANK``), srun (``SLURM_PROCID``) and a slurm array say,
            the tasks of an array job by all of its tasks.

    Raises:
        ConfigError: there is no such part.
    """
    local = environment.get('LOCAL_RANK', environment.get('SLURM_LOCALID'))
    if text is not None:
        match = re.fullmatch(r'(\d+)/(\d+)', text)
        if match is None or int(match[1]) >= int(match[2]):
            raise ConfigError(f'--shard {text} should be i/n with i from 0 to n - 1')
        index, total = int(match[1]), int(match[2])
        return Shard(index, total, index if local is None else int(local))

    def number(name: str, default: int) -> int:
        return int(environment.get(name, default))

    if 'RANK' in environment:
        index, total = number('RANK', 0), number('WORLD_SIZE', 1)
    else:
        # SLURM_NTASKS is there without srun as well, where this is the only process; srun alone says how many
        # it started
        index, total = number('SLURM_PROCID', 0), number('SLURM_STEP_NUM_TASKS', 1)
    if 'SLURM_ARRAY_TASK_ID' in environment:
        first, count = number('SLURM_ARRAY_TASK_MIN', 0), number('SLURM_ARRAY_TASK_COUNT', 1)
        task, rest = divmod(number('SLURM_ARRAY_TASK_ID', 0) - first, number('SLURM_ARRAY_TASK_STEP', 1))
        if rest or task >= count:
            raise ConfigError(f'the slurm array has gaps (task {environment["SLURM_ARRAY_TASK_ID"]} of '
                              f'{count} from {first}), so its tasks '
                              'do not tell who does what; pass --shard i/n')
        index, total = task * total + index, count * total
    return Shard(index, total, int(local or 0))
