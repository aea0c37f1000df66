"""Files that are either whole or not there, and JSON in them."""

import errno
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import CkdError, ConfigError

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def sha256_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(2**24):  # it may be larger than memory
            digest.update(part)
    return digest.hexdigest()


def atomic_write(path: Path, data: bytes | memoryview) -> None:
    """Write ``data`` so that a reader, or a crash, finds the old file or the whole new one, on disk.

    Raises:
        CkdError: the disk is full or the folder cannot be written; an older file is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, 'xb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise _unwritten(f'{path} ({len(data):,} bytes)', error) from error
    finally:
        if temporary.exists():
            temporary.unlink()


@contextmanager
def naming_disk_errors(folder: Path) -> Iterator[None]:
    """For what mmengine writes below ``folder``: logs, configs, checkpoints.

    Raises:
        CkdError: the disk is full or read-only, or a quota or limit of the file size is reached.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise _unwritten(error.filename or f'a file below {folder}', error) from error


def _unwritten(what: str, error: OSError) -> CkdError:
    return CkdError(f'cannot write {what}: {error.strerror or error}. Everything written before it is '
                    'intact; free some space or mend the folder, then run the same command with --resume')


def problem_of_file(path: Path, sha256: str) -> str | None:
    """What is wrong with a file that had this SHA-256 when it was written, as a predicate; None: nothing."""
    if not Path(path).is_file():
        return 'does not exist'
    return None if sha256_of_file(path) == sha256 else 'is damaged or another one: its SHA-256 has changed'


def remove_unfinished(folder: Path, name: str = '*') -> None:
    """Delete what a killed process left half written; no other process may be writing files of this name."""
    for file in Path(folder).glob(f'.{name}.*.tmp'):
        file.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def plain(value: Any) -> Any:
    """``value`` with JSON's types only: tuples become lists, classes their names, tensors and numpy scalars
    numbers, and numbers that are not finite (which JSON lacks) None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    # subclasses too (torch.__version__ is one of str): weights_only=True refuses them
    for kind in (int, float, str):
        if isinstance(value, kind):
            return None if kind is float and not math.isfinite(value) else kind(value)
    if hasattr(value, 'tolist'):  # tensors, numpy arrays and scalars
        return plain(value.tolist())
    if hasattr(value, '__qualname__'):
        return f'{value.__module__}.{value.__qualname__}'
    return str(value)


def nearest_folder(path: Path) -> Path:
    """What exists of ``path``: itself, or the nearest of its parents, which may be a file."""
    return next(place for place in (Path(path).absolute(), *Path(path).absolute().parents) if place.exists())


def require_writable(name: str, folder: str | Path, remedy: str = 'choose another') -> None:
    """Raises ConfigError where ``folder`` is none in which files can be made; it may not exist yet.

    Args:
        name: of its key.
    """
    place = nearest_folder(Path(folder))
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise ConfigError(f'{name}={str(folder)!r}: {place} is no folder that can be written; {remedy}')


def write_json(path: Path, value: Any) -> None:
    atomic_write(path, (json.dumps(plain(value), indent=2, ensure_ascii=False) + '\n').encode())


def read_json(path: Path, remedy: str = '') -> Any:
    """
    Args:
        remedy: the way out, for the message.

    Raises:
        CkdError: the file is missing or is not JSON.
    """
    if not Path(path).exists():
        raise CkdError(f'{path} does not exist')
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise CkdError(f'{path} cannot be read as JSON ({error}); it is damaged or another file. {remedy}'
                       .rstrip('. ')) from error
