"""Data sets as one tensor of pixels, shared by all who read the same."""

import json
import math
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS as CLASSIFICATION_DATASETS
from torch import Tensor

from ..errors import ConfigError
from ..progress import Progress
from .damaged import name_damaged

# the way out in messages
LEAVE_OUT = 'leave InMemory out, with num_workers=4 and persistent_workers=True in the data loader'
KEPT = 4  # training and test images of two data sets
_decoded: 'dict[str, Decoded]' = {}


class Decoded:
    """The images of a data set whose pipeline has nothing random, each read once: ``pixels``, uint8
    (N, C, H, W), and ``labels``, int64 (N, )."""

    def __init__(self, dataset: BaseDataset) -> None:
        self.dataset = name_damaged(dataset)
        self.pixels = torch.empty(0, dtype=torch.uint8)
        self.labels = torch.empty(len(dataset), dtype=torch.int64)
        self.is_read = np.zeros(len(dataset), dtype=bool)

    def read(self, indices: np.ndarray) -> None:
        """
        Raises:
            ConfigError: an image or its label cannot be stacked with the others, or there is not enough
                memory for all of them.
        """
        missing = np.unique(indices[~self.is_read[indices]]).tolist()
        progress = Progress(lambda line: print_log(line, logger='current'), 'ckd_mm.InMemory: decoding image',
                            len(missing))
        for index in missing:
            item = self.dataset.pipeline(self.dataset.get_data_info(index))
            image = self._checked(item['img'], index)
            if len(self.pixels) == 0:
                self.pixels = _reserved(len(self.dataset), image.shape)
            self.pixels[index] = image
            self.labels[index] = _label(item.get('gt_label'), index)
            self.is_read[index] = True
            progress.step()

    def _checked(self, image: np.ndarray, index: int) -> Tensor:
        """(C, H, W)."""
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3):
            found = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
            raise ConfigError(f'ckd_mm.InMemory: image {index} is a {found}, expected uint8 of (height, '
                              f'width, channels); {LEAVE_OUT}')
        image = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(image).transpose(2, 0, 1)))
        if len(self.pixels) and image.shape != self.pixels.shape[1:]:
            raise ConfigError(f'ckd_mm.InMemory: image {index} has {_described(image.shape)}, others have '
                              f'{_described(self.pixels.shape[1:])}; add a transform that makes them equal '
                              f'(Resize, CenterCrop) before the random ones, or {LEAVE_OUT}')
        return image


def _label(given, index: int) -> int:
    label = given.item() if isinstance(given, np.ndarray) and given.ndim == 0 else given  # as MNIST's
    if not isinstance(label, (int, np.integer)):
        raise ConfigError(f'ckd_mm.InMemory: image {index} has gt_label={given!r}, expected one number; '
                          f'{LEAVE_OUT}')
    return int(label)


def _reserved(images: int, shape: Sequence[int]) -> Tensor:
    """uint8 (images, C, H, W); pages that are never written take no memory."""
    try:
        return torch.empty((images, *shape), dtype=torch.uint8)
    except (RuntimeError, MemoryError) as error:
        raise ConfigError(f'ckd_mm.InMemory: {images} images of {_described(shape)} take '
                          f'{images * math.prod(shape):,} bytes, more memory than there is; '
                          f'{LEAVE_OUT}') from error


def _described(shape: Sequence[int]) -> str:
    return f'{shape[1]}x{shape[2]} pixels of {shape[0]} channels'


def decoded(config: dict) -> Decoded:
    """The images of a data set's config: one object for all stages of a run, the last :data:`KEPT` kept."""
    key = json.dumps(config, sort_keys=True, default=repr)
    _decoded[key] = _decoded.pop(key, None) or Decoded(CLASSIFICATION_DATASETS.build(config))
    while len(_decoded) > KEPT:
        _decoded.pop(next(iter(_decoded)))
    return _decoded[key]
