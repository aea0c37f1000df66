"""Cached teacher targets."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CkdError, ConfigError
from ..files import sha256_of_file
from ..losses.soft_target import SoftTarget
from ..record import differences, flatten, read_record
from .layout import Layout, image_checksum

FILE, FORMAT = 'targets.json', 'ckd_mm targets 3'
# Of checksums, for pixels whose root mean square is at most 1, and in proportion above. Rounding changes
# them by 2e-5 (150,528 pixels added up in float32 in another order); of photographs mirrored or moved by one
# pixel, at 32 to 224 px, 99 % have a checksum that differs by more than 1e-3, most by more than 0.1.
TOLERANCE = 1e-3
REMOVE = ('Remove the folder: a resumed run makes its own targets again; instead of given ones '
          '(distill.cache.file) name others, or none')
# checksums on another device are compared there, and the result is waited for every so many batches
BATCHES_BETWEEN_CHECKS, VERIFIED_AT_ONCE = 50, ('cpu', )


class TargetFile:
    """A folder with ``targets.json`` and a numpy file for each array of :class:`Layout`, mapped into memory.

    Args:
        folder: it need not exist yet.
        target: ``target_settings`` of the loss that will be given them; None: whatever they were made for.
    """

    def __init__(self, folder: str | Path, target: dict[str, Any] | None = None) -> None:
        self.folder, self.target = Path(folder), target
        self._arrays: dict[str, np.ndarray] | None = None
        self._layout: Layout | None = None
        # rows, and the differences of their checksums: not verified yet
        self._compared: list[tuple[np.ndarray, Tensor]] = []
        self._verified = False

    def __deepcopy__(self, memo) -> 'TargetFile':
        return self  # an EMA copy of the model reads the same file

    # ------------------------------------------------------------ what it says
    def record(self) -> dict[str, Any]:
        """The content of ``targets.json``.

        Raises:
            CkdError: there is none, or it is something else.
        """
        path = self.folder / FILE
        if not path.is_file():
            raise CkdError(f'{path} does not exist: there are no teacher targets in this folder')
        return read_record(path, FORMAT, 'record of teacher targets', REMOVE)

    @property
    def is_complete(self) -> bool:
        return (self.folder / FILE).is_file() and self.record()['complete']

    @property
    def layout(self) -> Layout:
        self._open()
        return self._layout

    @property
    def teachers(self) -> int:
        return self.layout.teachers

    def check(self) -> None:
        """
        Raises:
            CkdError: it is not finished, or a file is missing or damaged.
        """
        self._open()
        for name, expected in self.record()['sha256'].items():
            if sha256_of_file(self.folder / f'{name}.npy') != expected:
                raise CkdError(f'{self.folder / name}.npy is damaged: its SHA-256 is not the one in {FILE}. '
                               f'{REMOVE}')

    # ------------------------------------------------------------ the rows
    def of(self, data_samples: list[Any], inputs: Tensor) -> SoftTarget:
        """The targets of a batch.

        Args:
            data_samples: with ``sample_idx`` and ``view``, as of :class:`ckd_mm.data.ReplayableDataset`.
            inputs: the images, whose checksums are compared with those of the images that the teachers saw:
                at once in the first batch and on a CPU, elsewhere every :data:`BATCHES_BETWEEN_CHECKS`
                batches, or in :meth:`verify`. The targets are on their device.

        Raises:
            ConfigError: images without a view, views that are not cached, or targets for another loss.
            CkdError: other images; a file is missing or damaged.
        """
        rows = self._rows(data_samples)
        self._compare(rows, inputs)
        return self.read(rows, inputs.device)

    def read(self, rows: np.ndarray, device: str | torch.device = 'cpu') -> SoftTarget:
        """The targets of these rows."""
        self._open()
        read = {name: np.asarray(array[rows]) for name, array in self._arrays.items() if name != 'checksum'}
        return self._layout.decode(read, device)

    def _rows(self, data_samples: list[Any]) -> np.ndarray:
        layout = self.layout
        try:
            images, views = (np.array([int(getattr(sample, name)) for sample in data_samples])
                             for name in ('sample_idx', 'view'))
        except AttributeError as error:
            raise ConfigError("targets are cached by image and view, and the training images have none; "
                              "train_dataloader should be dataset=dict(type='ckd_mm.Views', dataset=...), "
                              f"sampler=dict(type='ckd_mm.ViewSampler', views={layout.views})") from error
        if images.max() >= layout.images or views.max() >= layout.views:
            raise ConfigError(f'{self.folder} has targets of {layout.images} images in {layout.views} views, '
                              f'and image {images.max()} in view {views.max()} (counted from 0) was asked '
                              f'for: is the sampler ckd_mm.ViewSampler(views={layout.views}), and the data '
                              'set the same?')
        return images + views * layout.images

    def _compare(self, rows: np.ndarray, inputs: Tensor) -> None:
        cached = torch.from_numpy(np.asarray(self._arrays['checksum'][rows]))
        pixels = inputs.detach().float().flatten(1)
        # images may be in 0 to 255
        size = (torch.linalg.vector_norm(pixels, dim=1) / math.sqrt(pixels.shape[1])).clamp_min(1)
        difference = (image_checksum(pixels) - cached.to(inputs.device, non_blocking=True)).abs() / size
        self._compared.append((rows, difference))
        if not self._verified or inputs.device.type in VERIFIED_AT_ONCE or \
                len(self._compared) >= BATCHES_BETWEEN_CHECKS:
            self.verify()

    def verify(self) -> None:
        """Compare all images so far with those that the teachers saw; for the end of a training, and before a
        checkpoint is written that a resumed run would go on from.

        Raises:
            CkdError: naming the image that differs most.
        """
        if not self._compared:
            return
        rows = np.concatenate([rows for rows, _ in self._compared])
        difference = torch.cat([difference for _, difference in self._compared]).cpu()
        self._compared, self._verified = [], True
        others = int((~(difference <= TOLERANCE)).sum())
        if others:
            worst = int(difference.argmax())
            view, image = divmod(int(rows[worst]), self._layout.images)
            raise CkdError(f'image {image} in view {view} is not the one that the teachers saw when '
                           f'{self.folder} was made (and so are {others - 1} more of {len(rows)}): the files '
                           'of the data set, their order, or the libraries that augment them are others. '
                           'Make the targets again: leave distill.cache.file out, or choose another '
                           '--work-dir')

    def _open(self) -> None:
        if self._arrays is not None:
            return
        record = self.record()
        if not record['complete']:
            raise CkdError(f'the teacher targets in {self.folder} are not finished; go on with the run that '
                           'makes them, with --resume')
        self._require_same_target(record['fingerprint'].get('target'))
        self._layout = Layout(**record['layout'])
        self._arrays = {name: open_array(self.folder, name, self._layout) for name in self._layout.arrays}

    def _require_same_target(self, found: dict[str, Any] | None) -> None:
        changed = [] if None in (found, self.target) else differences(flatten(found), flatten(self.target))
        if changed:
            raise ConfigError(f'{self.folder} holds targets for another loss: {"; ".join(changed)}. Give the '
                              'loss the settings that they were made for, or make targets for this one')


def open_array(folder: Path, name: str, layout: Layout) -> np.ndarray:
    """An array, mapped into memory.

    Raises:
        CkdError: it is missing, shorter or longer than it should be, or of another shape.
    """
    path = folder / f'{name}.npy'
    shape, dtype = layout.arrays[name]
    problem = 'it does not exist'
    if path.is_file():
        try:
            array = np.load(path, mmap_mode='r')
        except (ValueError, OSError, EOFError) as error:
            problem = f'{error}'
        else:
            wanted = array.offset + array.nbytes
            if array.shape == shape and array.dtype == dtype and path.stat().st_size == wanted:
                return array
            found = f'{path.stat().st_size:,} bytes, {array.dtype} {array.shape}'
            problem = f'it has {found}; expected {wanted:,}, {dtype} {shape}'
    raise CkdError(f'{path} is damaged: {problem}. {REMOVE}')
