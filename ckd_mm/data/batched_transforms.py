"""mmpretrain's RandomCrop and RandomFlip for a batch of images at once, with the same distribution.

Each takes uint8 images (N, C, H, W) on any device, and ``draws`` random numbers in [0, 1) for each image.
"""

import copy
from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
import torch
from mmcv.transforms import CenterCrop, LoadImageFromFile, Pad, RandomFlip, Resize
from mmpretrain.datasets.transforms import EfficientNetCenterCrop, PackInputs, RandomCrop, ResizeEdge
from mmpretrain.registry import TRANSFORMS
from torch import Tensor

from ..errors import ConfigError
from .decoded import LEAVE_OUT

# transforms without randomness are done once
DECODING = {LoadImageFromFile, Resize, CenterCrop, Pad, ResizeEdge, EfficientNetCenterCrop}
AXES = dict(horizontal=(-1, ), vertical=(-2, ), diagonal=(-2, -1))


class BatchedRandomCrop:
    draws = 2

    def __init__(self, transform: RandomCrop) -> None:
        self.transform = transform

    def __call__(self, images: Tensor, draw: np.ndarray) -> Tensor:
        images = self._padded(images)
        high, wide = map(min, self.transform.crop_size, images.shape[2:])
        windows = images.unfold(2, high, 1).unfold(3, wide, 1)  # a view: (N, C, tops, lefts, high, wide)
        top, left = (draw * windows.shape[2:4]).astype(np.int64).T
        return torch.as_tensor(_indexable(windows)[np.arange(len(images)), :, top, left])

    def _padded(self, images: Tensor) -> Tensor:
        padding = self.transform.padding
        if padding is None:
            return images
        count, channels, high, wide = images.shape
        frame = mmcv.impad(np.zeros((high, wide, channels), np.uint8), padding=padding,
                           pad_val=self.transform.pad_val)
        frame = torch.from_numpy(np.atleast_3d(frame)).permute(2, 0, 1).contiguous()
        padded = frame.to(images.device).repeat(count, 1, 1, 1)
        left, top = (padding, padding) if isinstance(padding, int) else padding[:2]
        padded[:, :, top:top + high, left:left + wide] = images
        return padded


class BatchedRandomFlip:
    """In place."""
    draws = 1

    def __init__(self, transform: RandomFlip) -> None:
        directions, prob = transform.direction, transform.prob
        directions = [directions] if isinstance(directions, str) else directions
        self.axes = [AXES[direction] for direction in directions]
        self.bounds = np.cumsum(prob if isinstance(prob, list) else [prob / len(self.axes)] * len(self.axes))

    def __call__(self, images: Tensor, draw: np.ndarray) -> Tensor:
        direction = np.searchsorted(self.bounds, draw[:, 0], side='right')  # beyond the last: no flip
        pixels = _indexable(images)
        for number, axes in enumerate(self.axes):
            rows = np.flatnonzero(direction == number)
            pixels[rows] = _indexable(torch.as_tensor(pixels[rows]).flip(axes))
        return images


def _indexable(images: Tensor) -> np.ndarray | Tensor:
    """numpy indexes images in host memory several times faster than torch."""
    return images.numpy() if images.device.type == 'cpu' else images


# exactly these classes: a subclass may do anything
BATCHED: dict[type, type] = {RandomCrop: BatchedRandomCrop, RandomFlip: BatchedRandomFlip}


def divided(pipeline: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The transforms of a pipeline that are done once, and the random rest.

    Raises:
        ConfigError: another transform, or one in another place.
    """
    decoding, random = [], []
    for place, step in enumerate(pipeline):
        transform = TRANSFORMS.build(copy.deepcopy(step)) if isinstance(step, dict) else step
        kind = type(transform)
        if kind is PackInputs and place == len(pipeline) - 1:
            if transform.input_key != 'img' or transform.algorithm_keys or \
                    tuple(transform.meta_keys) != PackInputs.DEFAULT_META_KEYS:
                raise ConfigError(f'ckd_mm.InMemory: {transform} is not known here, only PackInputs() is: '
                                  f'images, labels and their numbers; {LEAVE_OUT}')
            return decoding, random
        if getattr(transform, 'pad_if_needed', False):
            raise ConfigError(f'ckd_mm.InMemory: pad_if_needed=True of {kind.__name__}, number {place} of '
                              'the pipeline, is not known here; all images have one size, so give padding. '
                              f'Or {LEAVE_OUT}')
        if kind in DECODING and not random:
            decoding.append(transform)
        elif kind in BATCHED:
            random.append(transform)
        else:
            known = f'first any of {_names(DECODING)}, then of {_names(BATCHED)}, and PackInputs last'
            raise ConfigError(f'ckd_mm.InMemory: {kind.__name__}, number {place} of the pipeline, cannot be '
                              f'done a batch at a time there; known are {known}. Or {LEAVE_OUT}')
    raise ConfigError('ckd_mm.InMemory: the pipeline does not end with PackInputs; add it')


def _names(kinds) -> str:
    return ', '.join(sorted(kind.__name__ for kind in kinds))
