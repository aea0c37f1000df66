"""Writing teacher targets, so that a kill costs a block and no more."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from torch import Tensor

from ..compat import versions
from ..errors import CkdError, ConfigError, NotFiniteError
from ..files import sha256_of_file, sync_folder, write_json
from ..losses import SoftTarget
from ..record import differences, flatten, listed
from .layout import Layout
from .target_file import FILE, FORMAT, REMOVE, TargetFile, open_array

PROGRESS = 'progress.npy'  # a byte for each block, 1 when its rows are on disk; gone when all are
BATCHES_A_BLOCK = 32
IDENTITY = ('layout', 'fingerprint', 'batch')  # targets of two batch sizes differ in their last bits


class TargetWriter:
    """Writes rows in batches of one size; a block of batches counts as done when it has been synced.

    It writes ranges of files, not maps of memory: a full disk is then an error and not a killed process, and
    several machines may write their own rows of the files of a network file system.

    Args:
        fingerprint: what the targets depend on, see :func:`ckd_mm.stages.target_making.targets_fingerprint`.
        batch: images in a batch; only the last of all may be smaller.
        started: when the work on them began, of ``time.perf_counter``; None: now.
    """

    def __init__(self, folder: str | Path, layout: Layout, fingerprint: dict[str, Any], batch: int,
                 started: float | None = None) -> None:
        self.folder, self.layout, self.fingerprint, self.batch = Path(folder), layout, fingerprint, batch
        self.started, self.seconds_before = perf_counter() if started is None else started, 0.0
        self.blocks = -(-layout.rows // (batch * BATCHES_A_BLOCK))
        self._files: dict[str, tuple[int, int]] = {}  # open files, and where in them the rows begin

    def prepare(self) -> list[int]:
        """Go on with what the same settings began, or begin; for one process, before any writes.

        Returns:
            The blocks that are left to do, rising; none where all is finished.

        Raises:
            ConfigError: there are rows that other settings made.
            CkdError: what is there is damaged; the disk cannot be written.
        """
        wanted, path = self._record(), self.folder / FILE
        if path.is_file():
            found = TargetFile(self.folder).record()
            changed = differences(*(flatten({key: record[key] for key in IDENTITY})
                                    for record in (found, wanted)))
            if not changed:
                self.seconds_before = found['seconds']
                if not found['complete']:
                    return self._left()
                TargetFile(self.folder).check()
                return []
            if found['complete'] or self._progress().any():
                raise ConfigError(f'{self.folder} holds targets that were begun with other settings: '
                                  f'{listed(changed)}. Restore them to go on, or remove the folder to make '
                                  'the targets anew')
            path.unlink()
        with self._writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            progress = ((self.blocks, ), np.uint8)
            for name, (shape, dtype) in dict(self.layout.arrays, progress=progress).items():
                np.lib.format.open_memmap(self.folder / f'{name}.npy', 'w+', dtype, shape).flush()
            sync_folder(self.folder)
        write_json(path, wanted)
        return list(range(self.blocks))

    def finish(self) -> dict[str, Any]:
        """The content of ``targets.json``; for one process. A CkdError unless all blocks are done."""
        self.close()
        if TargetFile(self.folder).is_complete:
            return TargetFile(self.folder).record()
        left = self._left()
        if left:
            raise CkdError(f'the targets in {self.folder} are not finished: {len(left)} of {self.blocks} '
                           'blocks are not written; go on with the run that makes them, with --resume')
        sums = {name: sha256_of_file(self.folder / f'{name}.npy') for name in self.layout.arrays}
        record = dict(self._record(), complete=True, sha256=sums)
        write_json(self.folder / FILE, record)
        (self.folder / PROGRESS).unlink(missing_ok=True)
        return record

    def _left(self) -> list[int]:
        """Blocks that are not done, of files that have their whole size."""
        for name in self.layout.arrays:
            open_array(self.folder, name, self.layout)
        done = self._progress()
        if done.shape != (self.blocks, ):
            raise CkdError(f'{self.folder / PROGRESS} is damaged: it has {done.size} blocks, expected '
                           f'{self.blocks}. {REMOVE}')
        return np.flatnonzero(done == 0).tolist()

    def _progress(self) -> np.ndarray:
        path = self.folder / PROGRESS
        try:
            return np.lib.format.open_memmap(path, mode='r')  # as in open_array
        except Exception as error:
            raise CkdError(f'{path} is damaged: {error}. {REMOVE}') from error

    def _record(self) -> dict[str, Any]:
        return dict(format=FORMAT, complete=False, layout=asdict(self.layout), fingerprint=self.fingerprint,
                    batch=self.batch, seconds=round(self.seconds_before + perf_counter() - self.started, 2),
                    versions=versions())

    def batches_of(self, block: int) -> list[range]:
        """The rows of each batch of a block."""
        end = min((block + 1) * self.batch * BATCHES_A_BLOCK, self.layout.rows)
        return [range(start, min(start + self.batch, end))
                for start in range(block * self.batch * BATCHES_A_BLOCK, end, self.batch)]

    def write(self, start: int, target: SoftTarget, checksums: Tensor) -> None:
        """The rows from ``start`` on.

        Raises:
            NotFiniteError: a target is not finite.
            CkdError: the disk is full.
        """
        rows = self.layout.encode(target, checksums)
        if not all(np.isfinite(values).all() for values in rows.values()):
            raise NotFiniteError(f'the targets of rows {start} to {start + len(checksums) - 1} are not '
                                 'finite: logits are too large, or not numbers')
        for name, values in rows.items():
            self._write(name, start, values)

    def done(self, block: int) -> None:
        """Sync its rows, which are all written, and then note it in the progress."""
        with self._writing(self.folder):
            for name in self.layout.arrays:
                os.fsync(self._file(name)[0])
            self._write('progress', block, np.ones(1, np.uint8))
            os.fsync(self._file('progress')[0])
        if is_main_process():  # with the seconds so far: a resumed run adds its own
            write_json(self.folder / FILE, self._record())

    def close(self) -> None:
        for file, _ in self._files.values():
            os.close(file)
        self._files = {}

    def _file(self, name: str) -> tuple[int, int]:
        if name not in self._files:
            path = self.folder / f'{name}.npy'
            self._files[name] = os.open(path, os.O_RDWR), np.load(path, mmap_mode='r').offset
        return self._files[name]

    def _write(self, name: str, row: int, values: np.ndarray) -> None:
        data = memoryview(np.ascontiguousarray(values)).cast('B')
        with self._writing(self.folder / f'{name}.npy'):
            file, start = self._file(name)
            place = start + row * (len(data) // len(values))
            while data:
                written = os.pwrite(file, data, place)
                data, place = data[written:], place + written

    @contextlib.contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CkdError(f'cannot write {path}: {error.strerror or error}. The targets need '
                           f'{self.layout.bytes:,} bytes in all; what was written before is intact. Free '
                           'space (or cache less: distill.cache.dtype, top_k, views), then run the same '
                           'command with --resume') from error
