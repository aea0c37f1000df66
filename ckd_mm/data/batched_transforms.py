"""mmpretrain's RandomCrop and RandomFlip for a batch of images at once, with the same distribution.

Random numbers in [0, 1), ``draws`` for each image, are handed in and interpreted by numpy, whose small
operations take a third of the time of torch's; pixels are torch's, on any device.
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

# what always gives the same of the same image: done once
DECODING = {LoadImageFromFile, Resize, CenterCrop, Pad, ResizeEdge, EfficientNetCenterCrop}
LARGEST_MAPS = 2**22  # numbers of 8 bytes
DIMENSIONS = dict(horizontal=(-1, ), vertical=(-2, ), diagonal=(-2, -1))


class PixelMaps:
    """Shows pixels of the image in other places, in one of K ways.

    Args:
        shape: (C, H, W) of the images that it is given.
        maps: int64 (K, h, w), the number of the pixel that each place shows in each of the ways; H * W stands
            for ``pad_val``.
        pad_val: uint8 (C, ), None: no place shows it.

    Attributes:
        shape: (C, h, w) of the images that it returns.
        draws: random numbers that an image takes.
    """
    draws: int

    def __init__(self, shape: tuple[int, int, int], maps: Tensor, pad_val: Tensor | None = None) -> None:
        self.shape = (shape[0], *maps.shape[1:])
        self.maps, self.pad_val, self.pixels = maps.flatten(1).contiguous(), pad_val, shape[1] * shape[2]

    def choose(self, draw: np.ndarray) -> np.ndarray:
        """Which way for each image: (N, draws) to int64 (N, )."""
        raise NotImplementedError

    def shown(self, draw: np.ndarray, device: torch.device) -> Tensor:
        """The number of the pixel that each place of each image shows, int64 (N, h * w)."""
        self.maps = self.maps.to(device)
        return self.maps.index_select(0, torch.from_numpy(self.choose(draw)).to(device))

    def __call__(self, images: Tensor, draw: np.ndarray) -> Tensor:
        """
        Args:
            images: uint8 (N, C, H, W), on any device.
            draw: float64 (N, draws).
        """
        pixels = images.flatten(2)
        if self.pad_val is not None:
            padding = self.pad_val.to(images.device)[:, None].expand(len(images), -1, 1)
            pixels = torch.cat([pixels, padding], dim=2)
        shown = self.shown(draw, images.device)[:, None].expand(-1, pixels.shape[1], -1)
        return pixels.gather(2, shown).unflatten(2, self.shape[1:])


class BatchedRandomCrop(PixelMaps):
    """``RandomCrop``: a map for each place, up to :data:`LARGEST_MAPS` numbers. Larger crops (224 out of 256
    pixels would take 437 MB) index ``padded``, the numbers of the pixels of the padded image."""
    draws = 2

    def __init__(self, transform: RandomCrop, shape: tuple[int, int, int]) -> None:
        source, pad_val = padded_numbers(transform, shape)
        size = [min(wanted, there) for wanted, there in zip(transform.crop_size, source.shape)]
        maps = windows(source, size)
        self.places = maps.shape[:2]  # from the top, from the left
        self.padded = source if maps.numel() > LARGEST_MAPS else None
        super().__init__(shape, maps.flatten(0, 1) if self.padded is None else maps[0, :1], pad_val)

    def shown(self, draw: np.ndarray, device: torch.device) -> Tensor:
        if self.padded is None:
            return super().shown(draw, device)
        self.padded = self.padded.to(device)
        places = (torch.from_numpy(place).to(device)
                  for place in np.divmod(self.choose(draw), self.places[1]))
        return windows(self.padded, self.shape[1:])[tuple(places)].flatten(1)

    def choose(self, draw: np.ndarray) -> np.ndarray:
        top, left = ((draw[:, axis] * count).astype(np.int64) for axis, count in enumerate(self.places))
        return top * self.places[1] + left


class BatchedRandomFlip(PixelMaps):
    """``RandomFlip``, in one or several directions."""
    draws = 1

    def __init__(self, transform: RandomFlip, shape: tuple[int, int, int]) -> None:
        given, prob = transform.direction, transform.prob
        names = [given] if isinstance(given, str) else list(given)
        self.bounds = np.cumsum(prob if isinstance(prob, list) else [prob / len(names)] * len(names))
        numbers = torch.arange(shape[1] * shape[2]).reshape(shape[1:])
        flipped = [numbers.flip(DIMENSIONS[name]) for name in names]
        super().__init__(shape, torch.stack([*flipped, numbers]))

    def choose(self, draw: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.bounds, draw[:, 0], side='right')  # the last is: not at all


class BothMaps(PixelMaps):
    """Two after another at the price of one: K1 * K2 ways."""

    def __init__(self, first: PixelMaps, second: PixelMaps) -> None:
        self.first, self.second, self.draws = first, second, first.draws + second.draws
        outside = torch.full((len(first.maps), 1), first.pixels)
        # (K1, K2, h * w): the second's numbers are looked up in the first's
        maps = torch.cat([first.maps, outside], dim=1)[:, second.maps].flatten(0, 1)
        pad_val = second.pad_val if first.pad_val is None else first.pad_val
        super().__init__((first.shape[0], 1, first.pixels), maps.unflatten(1, second.shape[1:]), pad_val)

    @staticmethod
    def is_possible(first: PixelMaps, second: PixelMaps) -> bool:
        if any(getattr(step, 'padded', None) is not None for step in (first, second)):
            return False
        return None in (first.pad_val, second.pad_val) and \
            len(first.maps) * second.maps.numel() <= LARGEST_MAPS

    def choose(self, draw: np.ndarray) -> np.ndarray:
        first, second = np.split(draw, [self.first.draws], axis=1)
        return self.first.choose(first) * len(self.second.maps) + self.second.choose(second)


def padded_numbers(transform: RandomCrop, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor | None]:
    """Numbers of the pixels of an image (C, H, W) as mmcv pads it, H * W for ``pad_val``; and ``pad_val``,
    uint8 (C, ), None if nothing is padded. (As in mmpretrain ``padding_mode`` is for ``pad_if_needed``.)"""
    channels, height, width = shape
    source = np.arange(height * width, dtype=np.int32).reshape(height, width)
    if transform.padding is not None:
        source = mmcv.impad(source, padding=transform.padding, pad_val=-1)
    if transform.pad_if_needed:
        high, wide = (-(-max(0, wanted - there) // 2)
                      for wanted, there in zip(transform.crop_size, source.shape))
        source = mmcv.impad(source, padding=(wide, high, wide, high), pad_val=-1,
                            padding_mode=transform.padding_mode)
    numbers, pad_val = torch.from_numpy(source.copy()).long(), None
    if (source < 0).any():
        corner = mmcv.impad(np.zeros((1, 1, channels), np.uint8), padding=1, pad_val=transform.pad_val)
        pad_val = torch.from_numpy(corner.reshape(9, channels)[0].copy())
        numbers[numbers < 0] = height * width
    return numbers, pad_val


def windows(image: Tensor, size: Sequence[int]) -> Tensor:
    """All parts of that size, as a view: (H, W) to (places from the top, places from the left, h, w)."""
    return image.unfold(0, size[0], 1).unfold(1, size[1], 1)


# exactly these classes: a subclass may do anything
BATCHED: dict[type, type] = {RandomCrop: BatchedRandomCrop, RandomFlip: BatchedRandomFlip}


def batched(transforms: Sequence[Any], shape: tuple[int, int, int]) -> list[PixelMaps]:
    """mmpretrain's transforms one after another, for images that are (C, H, W) at first."""
    made: list[PixelMaps] = []
    for transform in transforms:
        then = BATCHED[type(transform)](transform, made[-1].shape if made else shape)
        made.append(BothMaps(made.pop(), then) if made and BothMaps.is_possible(made[-1], then) else then)
    return made


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
