"""One run owns its work_dir: a lock, and a file that names who holds it."""

import contextlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from mmengine.logging import print_log

from ..distributed import on_main
from ..errors import CkdError, in_a_line, reading
from ..files import read_json, write_json

LOCK, OWNER = '.lock', 'owner.json'
PATIENCE = 100.0  # seconds; file servers keep the locks of a machine that has gone for about 90
NAME = re.compile(r'[^/]+-[0-9a-f]{8}')


@contextlib.contextmanager
def owning(folder: Path) -> Iterator[str | None]:
    """Be the only run in ``folder``, which is made where it does not exist. Called on all ranks, of which the
    first holds the lock.

    Yields:
        None, or a warning: the file system has no locks.

    Raises:
        CkdError: another run is in it, before anything was written there.
    """
    # no soft lock where the file system has none: a killed process would leave it
    lock = FileLock(folder / LOCK, fallback_to_soft=False)
    try:
        yield on_main(lambda: _own(folder, lock))
    finally:
        lock.release()


def owner_of(folder: Path) -> dict[str, Any]:
    """The run that is or was last in ``folder``: its host, process and start; empty where that is unknown."""
    try:
        found = read_json(folder / OWNER)
    except CkdError:
        found = None
    return found if isinstance(found, dict) else {}


def _own(folder: Path, lock: FileLock) -> str | None:
    with reading(f'work_dir={str(folder)!r} cannot be used'):
        folder.mkdir(parents=True, exist_ok=True)
        problem = _acquire(folder, lock)
        write_json(folder / OWNER, dict(
            name=_name(folder), work_dir=str(folder.resolve()), host=socket.gethostname(),
            process=os.getpid(), since=time.strftime('%Y-%m-%d %H:%M:%S')))
    return problem


def _acquire(folder: Path, lock: FileLock) -> str | None:
    started, warned = time.monotonic(), False
    while True:
        try:
            lock.acquire(timeout=0)
            return None
        except Timeout as error:
            owner = owner_of(folder)
            who = f'process {owner.get("process")} on {owner.get("host")}, since {owner.get("since")}'
            if _lives(owner) or time.monotonic() - started > PATIENCE:
                raise CkdError(f'work_dir={str(folder)!r} is in use by another run: {who}. Wait for '
                               'its end, or choose another --work-dir; nothing was written') from error
            if not warned:
                print_log(f'{folder} is still locked by {who}; waiting up to {PATIENCE:.0f} s')
            warned = True
            time.sleep(0.2)
        except OSError as error:
            return (f'{folder} cannot be locked ({in_a_line(error)}), so that a second run in it would not '
                    'be noticed')


def _lives(owner: dict[str, Any]) -> bool:
    """Whether it surely runs: on another machine it may have died with that, and its lock may go soon."""
    if owner.get('host') != socket.gethostname() or not isinstance(owner.get('process'), int):
        return False
    try:
        os.kill(owner['process'], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


def _name(folder: Path) -> str:
    """Of the run, for its files elsewhere: no other run has it. A folder that is moved keeps it, a copy gets
    another."""
    before = owner_of(folder)
    name, place = str(before.get('name')), Path(str(before.get('work_dir')))
    is_copy = owner_of(place).get('name') == name and not place.samefile(folder)
    if NAME.fullmatch(name) and not is_copy:
        return name
    return f'{folder.resolve().name}-{secrets.token_hex(4)}'
