"""Cached teacher targets."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CkdError, ConfigError
from ..files import sha256_of_file
from ..losses import SoftTarget
from ..record import differences, flatten, read_record
from ..settings import Settings, setting
from .layout import Layout, image_checksum

NEEDED = 'every such file has it'
FILE, FORMAT = 'targets.json', 'ckd_mm targets 3'
# Of checksums, for pixels whose root mean square is at most 1, and in proportion above. Rounding changes
# them by 2e-5 (150,528 pixels added up in float32 in another order); of photographs mirrored or moved by one
# pixel, at 32 to 224 px, 99 % have a checksum that differs by more than 1e-3, most by more than 0.1.
TOLERANCE = 1e-3
REMOVE = ('Remove the folder: a resumed run makes its own targets again; instead of given ones '
          '(distill.cache.file) name others, or none')
# to wait for a GPU in every batch would slow the training down
BATCHES_BETWEEN_CHECKS, VERIFIED_AT_ONCE = 50, ('cpu', )


@dataclass(frozen=True, kw_only=True)
class LayoutFacts(Settings):
    """See :class:`Layout`."""
    images: int = setting(at_least=1, help='N', remedy=NEEDED)
    views: int = setting(at_least=1, help='K', remedy=NEEDED)
    classes: int = setting(at_least=1, help='C', remedy=NEEDED)
    teachers: int = setting(1, at_least=1, help='M')
    dtype: str = setting('float32', choices=('float32', 'float16'), help='of the log-probabilities')
    top_k: int | None = setting(None, at_least=1, help='classes of each image; None: all')
    spread: bool = setting(False, help='whether there is one')


@dataclass(frozen=True, kw_only=True)
class TargetFacts(Settings):
    """What may stand in ``targets.json``."""
    example = 'dict(complete=True, layout=dict(...))'
    complete: bool = setting(help='whether all rows are written', remedy=NEEDED)
    layout: LayoutFacts = setting(help='of the arrays', remedy=NEEDED)
    fingerprint: dict = setting(help='what they depend on', remedy=NEEDED)
    batch: int = setting(at_least=1, help='images at a time', remedy=NEEDED)
    seconds: float = setting(at_least=0, help='of work', remedy=NEEDED)
    sha256: dict | None = setting(None, help='of each array, by its name')

    def check(self, name: str) -> None:
        arrays = set(Layout(**self.layout.given).arrays)
        texts = {key for key, value in (self.sha256 or {}).items() if isinstance(value, str)}
        if self.complete and texts != arrays:
            raise ConfigError(f'sha256={self.sha256!r} should have a text for each of {sorted(arrays)}')


class TargetFile:
    """A folder with ``targets.json`` and a numpy file for each array of :class:`Layout`, mapped into memory.

    Args:
        folder: read at the first use; it need not exist yet.
        target: ``target_settings`` of the loss that will be given them; None: whatever they were made for.
    """

    def __init__(self, folder: str | Path, target: dict[str, Any] | None = None) -> None:
        self.folder, self.target = Path(folder), target
        self._unverified: list[tuple[np.ndarray, Tensor]] = []  # rows, and the differences of their checksums
        self._any_verified = False

    def __deepcopy__(self, memo) -> 'TargetFile':
        return self  # an EMA copy of the model reads the same file

    def record(self) -> dict[str, Any]:
        """The content of ``targets.json``.

        Raises:
            CkdError: there is none, or it is something else.
        """
        path = self.folder / FILE
        if not path.is_file():
            raise CkdError(f'{path} does not exist: there are no teacher targets in this folder')
        return read_record(path, FORMAT, 'record of teacher targets', REMOVE, TargetFacts)

    @property
    def is_complete(self) -> bool:
        return (self.folder / FILE).is_file() and self.record()['complete']

    @cached_property
    def layout(self) -> Layout:
        """Raises CkdError where the targets are not finished, ConfigError where they are for another loss."""
        record = self.record()
        if not record['complete']:
            raise CkdError(f'the teacher targets in {self.folder} are not finished; go on with the run that '
                           'makes them, with --resume')
        found = record['fingerprint'].get('target')
        changed = [] if None in (found, self.target) else differences(flatten(found), flatten(self.target))
        if changed:
            raise ConfigError(f'{self.folder} holds targets for another loss: {"; ".join(changed)}. Give the '
                              'loss the settings that they were made for, or make targets for this one')
        return Layout(**record['layout'])

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: open_array(self.folder, name, self.layout) for name in self.layout.arrays}

    def check(self) -> None:
        """Raises CkdError where the targets are not finished, or a file is missing or damaged."""
        for name in self._arrays:
            if sha256_of_file(self.folder / f'{name}.npy') != self.record()['sha256'][name]:
                raise CkdError(f'{self.folder / name}.npy is damaged: its SHA-256 is not the one in {FILE}. '
                               f'{REMOVE}')

    def of(self, data_samples: list[Any], inputs: Tensor) -> SoftTarget:
        """The targets of a batch, on the device of its images.

        Args:
            data_samples: with ``sample_idx`` and ``view``, as of :class:`ckd_mm.data.ReplayableDataset`.
            inputs: the images. Their checksums are compared with those of the images that the teachers saw,
                at once in the first batch and on a CPU, elsewhere every :data:`BATCHES_BETWEEN_CHECKS`
                batches or in :meth:`verify`.

        Raises:
            ConfigError: images without a view, views that are not cached, or targets for another loss.
            CkdError: other images; a file is missing or damaged.
        """
        rows = self._rows(data_samples)
        cached = torch.from_numpy(self._arrays['checksum'][rows]).to(inputs.device, non_blocking=True)
        pixels = inputs.detach().float().flatten(1)
        size = torch.linalg.vector_norm(pixels, dim=1) / math.sqrt(pixels.shape[1])  # above 1 in 0 to 255
        self._unverified.append((rows, (image_checksum(pixels) - cached).abs() / size.clamp_min(1)))
        if not self._any_verified or inputs.device.type in VERIFIED_AT_ONCE or \
                len(self._unverified) >= BATCHES_BETWEEN_CHECKS:
            self.verify()
        return self.read(rows, inputs.device)

    def read(self, rows: np.ndarray, device: str | torch.device = 'cpu') -> SoftTarget:
        """The targets of these rows."""
        return self.layout.decode({name: np.asarray(array[rows]) for name, array in self._arrays.items()
                                   if name != 'checksum'}, device)

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
                              f'none of image {images.max()} in view {views.max()} (counted from 0): is the '
                              f'sampler ckd_mm.ViewSampler(views={layout.views}), and the data set the same?')
        return images + views * layout.images

    def verify(self) -> None:
        """Compare all images so far with those that the teachers saw; for the end of a training, and before a
        checkpoint is written that a resumed run would go on from.

        Raises:
            CkdError: naming the image that differs most.
        """
        if not self._unverified:
            return
        rows, difference = zip(*self._unverified)
        rows, difference = np.concatenate(rows), torch.cat(difference).cpu()
        self._unverified, self._any_verified = [], True
        others = int((~(difference <= TOLERANCE)).sum())  # NaN counts, too
        if others:
            view, image = divmod(int(rows[int(difference.argmax())]), self.layout.images)
            raise CkdError(f'image {image} in view {view} is not the one that the teachers saw when '
                           f'{self.folder} was made (and so are {others - 1} more of {len(rows)}): the files '
                           'of the data set, their order, or the libraries that augment them are others. '
                           'Make the targets again: leave distill.cache.file out, or choose another '
                           '--work-dir')


def open_array(folder: Path, name: str, layout: Layout) -> np.ndarray:
    """An array, mapped into memory; CkdError where it is missing, of another size or of another shape."""
    path = folder / f'{name}.npy'
    shape, dtype = layout.arrays[name]
    try:
        array = np.lib.format.open_memmap(path, mode='r')  # takes no archive, and no pickle
    except Exception as error:  # numpy reads the header as Python, which raises half a dozen types
        raise CkdError(f'{path} is damaged: {error}. {REMOVE}') from error
    size, expected = path.stat().st_size, array.offset + array.nbytes
    if array.shape != shape or array.dtype != dtype or size != expected:
        raise CkdError(f'{path} is damaged: it has {size:,} bytes, {array.dtype} {array.shape}; expected '
                       f'{expected:,}, {dtype} {shape}. {REMOVE}')
    return array
