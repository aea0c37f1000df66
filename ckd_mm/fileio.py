"""Files that are either whole or not there."""

import hashlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

from .errors import CkdError


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def atomic_write(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader, or a crash, finds the old file or the new one, never a part.

    Raises:
        CkdError: the disk is full or the folder cannot be written; what stood at ``path`` is untouched.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.', suffix='.tmp')
        with os.fdopen(handle, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; results are read by others, as far as the umask allows
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise CkdError(
            f'cannot write {path} ({len(data):,} bytes): {error.strerror or error}. Everything written before it is '
            'intact; free some space or mend the folder, then run the same command with --resume') from error


def sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def plain(value: Any) -> Any:
    """``value`` with JSON's types only: tuples become lists, classes and functions their dotted names, tensors and
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
        raise CkdError(f'{path} cannot be read as JSON ({error}); it is damaged or is another file') from error
