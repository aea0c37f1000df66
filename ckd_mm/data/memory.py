"""Whether images fit into the memory of this machine."""

import math
import os
import re
from pathlib import Path
from typing import Dict, Iterator, Optional, Sequence, Tuple

from ..errors import ConfigError

# for messages
LEAVE_OUT = 'leave InMemory out, with num_workers=4 and persistent_workers=True in the data loader'
ROOT = Path('/')
# how many processes of the run are on this machine, and which of them this is: torchrun, Open MPI, Slurm
LAUNCHERS = dict(LOCAL_WORLD_SIZE='LOCAL_RANK', OMPI_COMM_WORLD_LOCAL_SIZE='OMPI_COMM_WORLD_LOCAL_RANK',
                 SLURM_STEP_TASKS_PER_NODE='SLURM_LOCALID')
# control groups, version 2 and 1, by the name in /proc/self/cgroup: where they are, the limit, what is used,
# and what of that are files, whose memory is given back when it is needed
GROUPS: Dict[str, Tuple[str, str, str, Tuple[str, str]]] = {
    '': ('sys/fs/cgroup', 'memory.max', 'memory.current', ('inactive_file', 'active_file')),
    'memory': ('sys/fs/cgroup/memory', 'memory.limit_in_bytes', 'memory.usage_in_bytes',
               ('total_inactive_file', 'total_active_file')), }


def require_memory(images: int, shape: Sequence[int]) -> None:
    """
    Args:
        images: that this process has yet to hold.
        shape: (C, H, W) of each.

    Raises:
        ConfigError: there is no memory for so many in each process of the run; Linux would kill it without a
            word.
    """
    processes, there = processes_to_come(), available_memory()
    wanted = processes * images * math.prod(shape)
    if there is not None and wanted > there:
        held = f'in each of {processes} processes ' if processes > 1 else ''
        raise ConfigError(f'ckd_mm.InMemory: {images} images of {describe(shape)} {held}take '
                          f'{wanted / 1e9:.1f} GB of memory, and '
                          f'{there / 1e9:.1f} GB are available here; {LEAVE_OUT}')


def processes_to_come() -> int:
    """This one and those after it on this machine. Those before it may hold their images already, which are
    not available any more: to
    count them would count them twice. The first one speaks for all."""
    for size, rank in LAUNCHERS.items():
        if size in os.environ:
            # Slurm lists machines: 4(x2),3
            sizes = [int(number) for number in re.findall(r'(?:^|,)(\d+)', os.environ[size])]
            return max(1, max(sizes, default=1) - int(os.environ.get(rank, 0)))
    return 1


def available_memory() -> Optional[int]:
    """Bytes; None where the system does not say."""
    file = ROOT / 'proc/meminfo'
    found = re.search(r'^MemAvailable:\s*(\d+) kB$', file.read_text(),
                      re.MULTILINE) if file.is_file() else None
    return min([*([] if found is None else [int(found[1]) * 1024]), *left_in_groups()], default=None)


def left_in_groups() -> Iterator[int]:
    """What each of the groups that limit this process (a container, a batch job) has left, in bytes."""
    file = ROOT / 'proc/self/cgroup'
    for line in file.read_text().splitlines() if file.is_file() else ():
        _, name, path = line.split(':', 2)
        if name in GROUPS:
            root, limit, used, of_files = GROUPS[name]
            group = ROOT / root / path.lstrip(
                '/')  # which a container does not see: its own limit is that of the root there
            for folder in (group, *group.parents):
                if (folder / limit).is_file() and (folder / limit).read_text().strip() != 'max':
                    files = dict(entry.split() for entry in (folder / 'memory.stat').read_text().splitlines())
                    yield (int((folder / limit).read_text()) - int((folder / used).read_text()) +
                           sum(int(files.get(key, 0)) for key in of_files))


def describe(shape: Sequence[int]) -> str:
    return f'{shape[1]}x{shape[2]} pixels of {shape[0]} channels'
