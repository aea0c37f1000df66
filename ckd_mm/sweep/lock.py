"""One process at a time, over processes and machines."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import CkdError


class Locked(CkdError):
    """Another process is at work there; the message says which."""


@contextlib.contextmanager
def lock(path: Path, wait: bool = False) -> Iterator[None]:
    """Hold the lock ``path``; the file remains, and says who held it last.

    The system releases it when its holder ends, however it ends.

    Args:
        wait: until whoever holds it is done.

    Raises:
        Locked: another process holds it, and ``wait`` is False.
        CkdError: the file system has no locks.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX) if wait else _take(file)
        except BlockingIOError:
            file.seek(0)
            raise Locked(file.read().strip() or 'another process') from None
        except OSError as error:
            raise CkdError(f'{path} cannot be locked ({error.strerror}), so several processes could train '
                           'the same thing; choose a '
                           '--work-dir on a file system with locks') from error
        try:
            file.truncate(0)
            file.write(f'process {os.getpid()} on {socket.gethostname()}, since '
                       f'{time.strftime("%Y-%m-%d %H:%M:%S")}\n')
            file.flush()
            yield
        finally:
            fcntl.flock(file,
                        fcntl.LOCK_UN)  # closing would not do while a forked data worker still has the file


def _take(file, tries: int = 20) -> None:
    for left in reversed(range(tries)):
        try:
            # on NFS and Lustre it holds between machines only where they are mounted with locks, which is
            # their default
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:  # perhaps only by somebody who looks whether it is locked
            if not left:
                raise
            time.sleep(0.05)


def is_locked(path: Path) -> bool:
    if not Path(path).exists():
        return False
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(file, fcntl.LOCK_UN)
    return False
