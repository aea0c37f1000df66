"""Files that are either whole or not there."""

import contextlib
import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .errors import CkdError


def sha256_of_file(path: Path) -> str:
    """Read in parts: it may be larger than memory."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(2**24):
            digest.update(part)
    return digest.hexdigest()


class HashedFile:
    """A file that is being written, with its size in bytes and its SHA-256 so far.

    A write that fails is kept in ``problem`` and the rest is dropped: torch writes through C++, where an
    exception would come out as "unexpected pos" instead of "No space left on device".
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size = 0
        self.problem: OSError | None = None

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, data: bytes | memoryview) -> int:
        if self.problem is None:
            try:
                self._file.write(data)
                self._digest.update(data)
                self.size += len(data)
            except OSError as error:
                self.problem = error
        return len(data)

    def flush(self) -> None:
        """Nothing: what is written counts when it is synced as a whole."""


@contextlib.contextmanager
def atomic_file(path: Path, size: int) -> Iterator[HashedFile]:
    """A file to write in parts, so that a reader, or a crash, finds at ``path`` the old file or the whole new
    one, on disk.

    Args:
        size: bytes that are going to be written, for the message.

    Raises:
        CkdError: the disk is full or the folder cannot be written; what stood at ``path`` is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.tmp')
    made = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, 'xb') as file:
            made = True
            written = HashedFile(file)
            yield written
            if written.problem is not None:
                raise written.problem
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        made = False
        sync_folder(path.parent)
    except OSError as error:
        raise CkdError(
            f'cannot write {path} ({size:,} bytes): {error.strerror or error}. Everything written before it '
            'is '
            'intact; free some space or mend the folder, then run the same command with --resume') from error
    finally:
        if made:
            temporary.unlink(missing_ok=True)


def atomic_write(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader, or a crash, finds the old file or the new one, never a
    part.

    Raises:
        CkdError: the disk is full or the folder cannot be written; what stood at ``path`` is untouched.
    """
    with atomic_file(path, len(data)) as file:
        file.write(data)


def remove_unfinished(folder: Path, name: str = '*') -> None:
    """Delete what a killed process left of files of this name, half written in ``folder``; nobody may be
    writing them."""
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
    """``value`` with JSON's types only: tuples become lists, classes and functions their dotted names,
    tensors and
    numpy scalars numbers, and numbers that are not finite (which JSON lacks) None."""
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
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, '__qualname__'):
        return f'{value.__module__}.{value.__qualname__}'
    return str(value)


def write_json(path: Path, value: Any) -> None:
    atomic_write(path, (json.dumps(plain(value), indent=2, ensure_ascii=False) + '\n').encode())


def read_json(path: Path) -> Any:
    """
    Raises:
        CkdError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise CkdError(f'{path} does not exist') from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CkdError(
            f'{path} cannot be read as JSON ({error}); it is damaged or is another file') from error
