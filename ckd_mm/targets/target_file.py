"""Teacher targets that were kept."""

import hashlib
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

import numpy as np
import torch
from torch import Tensor

from ..errors import CkdError, ConfigError
from ..fileio import read_json
from ..models.losses.soft_target import SoftTarget
from .layout import Layout, mark_of

FILE, FORMAT = 'targets.json', 'ckd_mm targets 1'
TOLERANCE = 1e-3  # of marks, which are about 0.1: two devices round differently, another crop differs by more in some image of a batch


class TargetFile:
    """A folder with ``targets.json`` and a numpy file for each array of :class:`Layout`. Rows are read when they are asked for; what
    was read lately stays in the system's memory, shared by all processes of a machine.

    Args:
        folder: which may not be there yet.
    """

    def __init__(self, folder: Union[str, Path]) -> None:
        self.folder = Path(folder)
        self._arrays: Optional[Dict[str, np.ndarray]] = None
        self._layout: Optional[Layout] = None
        self._compared = False

    def __deepcopy__(self, memo) -> 'TargetFile':
        return self  # an EMA copy of the model reads the same file

    # ------------------------------------------------------------ what it says
    def record(self) -> Dict[str, Any]:
        """The content of ``targets.json``.

        Raises:
            CkdError: there is none, or it is something else.
        """
        path = self.folder / FILE
        if not path.is_file():
            raise CkdError(f'{path} does not exist: there are no teacher targets in this folder')
        record = read_json(path)
        if not isinstance(record, dict) or record.get('format') != FORMAT:
            found = record.get('format') if isinstance(record, dict) else None
            raise CkdError(f'{path} says format={found!r}, expected {FORMAT!r}: it is of another version, or another file')
        return record

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
                raise CkdError(f'{self.folder / name}.npy is damaged: its SHA-256 is not the one in {FILE}. Remove the folder; a run that '
                               'is resumed makes the targets again')

    # ------------------------------------------------------------ the rows
    def of(self, data_samples: List[Any], inputs: Tensor) -> SoftTarget:
        """The targets of a batch.

        Args:
            data_samples: with ``sample_idx`` and ``view``, as :class:`ckd_mm.datasets.ReplayableDataset` gives them.
            inputs: the images themselves; of the first batch they are compared with those that the teachers saw.

        Returns:
            On the device of the images.

        Raises:
            ConfigError: images without a view, or views that were not kept.
            CkdError: other images; a file is missing or damaged.
        """
        rows = self._rows(data_samples)
        if not self._compared:
            self._compare(rows, inputs)
            self._compared = True
        return self.read(rows, inputs.device)

    def read(self, rows: np.ndarray, device: Union[str, torch.device] = 'cpu') -> SoftTarget:
        """The targets of these rows."""
        self._open()
        return self._layout.decode({name: np.asarray(array[rows]) for name, array in self._arrays.items() if name != 'mark'}, device)

    def _rows(self, data_samples: List[Any]) -> np.ndarray:
        layout = self.layout
        try:
            images, views = (np.array([int(getattr(sample, name)) for sample in data_samples]) for name in ('sample_idx', 'view'))
        except AttributeError as error:
            raise ConfigError("targets are kept by image and view, and the training images have none; train_dataloader should be "
                              f"dataset=dict(type='ckd_mm.Views', dataset=...), sampler=dict(type='ckd_mm.ViewSampler', "
                              f'views={layout.views})') from error
        if images.max() >= layout.images or views.max() >= layout.views:
            raise ConfigError(f'{self.folder} has targets of {layout.images} images in {layout.views} views, and image {images.max()} in '
                              f'view {views.max()} (counted from 0) was asked for: is the sampler '
                              f'ckd_mm.ViewSampler(views={layout.views}), and the data set the same?')
        return images + views * layout.images

    def _compare(self, rows: np.ndarray, inputs: Tensor) -> None:
        difference = (mark_of(inputs).cpu() - torch.from_numpy(np.asarray(self._arrays['mark'][rows]))).abs()
        if not (difference <= TOLERANCE).all():
            worst = int(difference.argmax())
            view, image = divmod(int(rows[worst]), self._layout.images)
            raise CkdError(f'image {image} in view {view} is not the one that the teachers saw when {self.folder} was made (and so are '
                           f'{int((difference > TOLERANCE).sum()) - 1} more of {len(rows)}): the files of the data set, their order, or '
                           'the libraries that augment them are others. Make the targets again: leave distill.cache.file out, or choose '
                           'another --work-dir')

    def _open(self) -> None:
        if self._arrays is not None:
            return
        record = self.record()
        if not record['complete']:
            raise CkdError(f'the teacher targets in {self.folder} are not finished; go on with the run that makes them, with --resume')
        self._layout = Layout(**record['layout'])
        self._arrays = {name: open_array(self.folder, name, self._layout) for name in self._layout.arrays}


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
            problem = f'it has {path.stat().st_size:,} bytes, {array.dtype} {array.shape}; expected {wanted:,}, {dtype} {shape}'
    raise CkdError(f'{path} is damaged: {problem}. Remove the folder {folder}; a run that is resumed makes the targets again')


def sha256_of_file(path: Path) -> str:
    """Read in parts: it may be larger than memory."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(2**24):
            digest.update(part)
    return digest.hexdigest()
