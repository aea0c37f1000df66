"""Checkpoints that are somewhere else."""

import re
from pathlib import Path

import torch
from filelock import FileLock
from mmengine.fileio import get

from ..errors import SnapshotError, in_a_line
from ..files import atomic_write, sha256_of_file

# as in resnet34_8xb32_in1k_20210831-f257d4e6.pth; a date alone is none
HASH = re.compile(r'[-_](?!20\d{6}\.)([a-f0-9]{8,64})\.\w+$')


def local_file(source: str | Path) -> Path:
    """A path as it is; of a URL the file, which is downloaded once, by mmengine's file backends, into the
    folder where torch keeps downloads (``$TORCH_HOME/hub/checkpoints``).

    Raises:
        SnapshotError: it cannot be downloaded, or is not what the hash in its name says.
    """
    if '://' not in str(source):
        return Path(source)
    name = str(source).rpartition('/')[2]
    if name in ('', '.', '..'):
        raise SnapshotError(f'{source} should end in the name of a checkpoint file')
    file = Path(torch.hub.get_dir(), 'checkpoints', name)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f'{file}.lock'):  # of the processes of a run one downloads
        if not file.exists():
            try:
                data = get(str(source))
            except Exception as error:  # of whichever backend
                raise SnapshotError(f'{source} cannot be downloaded ({in_a_line(error)}); download it by '
                                    'hand, and name the file') from error
            atomic_write(file, data)
        named = HASH.search(file.name)
        if named and not sha256_of_file(file).startswith(named[1]):
            raise SnapshotError(f'{file}, downloaded from {source}, is damaged or another file: its '
                                f'SHA-256 does not begin with {named[1]}. Remove it, to download it again')
    return file
