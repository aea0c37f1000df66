"""mmpretrain's random transforms for a whole batch of images at once.

Each is made of the transform that it stands for, so that settings mean and default to the same, and it has
the same distribution. Random numbers are handed in: so many (``draws``) in [0, 1) for each image decide
everything. What they mean is computed by numpy, whose small operations take a third of the time of torch's;
pixels are torch's, on any device.
"""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import mmcv
import numpy as np
import torch
from mmcv.transforms import RandomFlip
from mmpretrain.datasets.transforms import Cutout, RandomCrop, RandomErasing
from torch import Tensor

from ..errors import ConfigError
from .counter_random import uniforms
from .memory import LEAVE_OUT

LARGEST_MAPS = 2**22  # numbers of 8 bytes
DIMENSIONS = dict(horizontal=(-1, ), vertical=(-2, ), diagonal=(-2, -1))


class BatchedTransform:
    """
    Args:
        transform: which it stands for.
        shape: (C, H, W) of the images that it is given.

    Attributes:
        shape: of those that it returns.
        draws: random numbers that an image takes.
    """
    draws: int

    def __init__(self, transform, shape: Tuple[int, int, int]) -> None:
        self.transform = transform
        self.shape = shape

    def __call__(self, images: Tensor, draw: np.ndarray) -> Tensor:
        """
        Args:
            images: uint8 (N, C, H, W), on any device.
            draw: float64 (N, draws).
        """
        raise NotImplementedError


class PixelMaps(BatchedTransform):
    """Shows pixels of the image in other places, in one of K ways.

    Args:
        shape: (C, H, W) of the images that it is given.
        maps: int64 (K, h, w), the number of the pixel that each place shows in each of the ways; H * W stands
            for ``pad_val``.
        pad_val: uint8 (C, ), None: no place shows it.
    """

    def __init__(self, transform, shape: Tuple[int, int, int], maps: Tensor,
                 pad_val: Optional[Tensor] = None) -> None:
        super().__init__(transform, (shape[0], *maps.shape[1:]))
        self.maps, self.pad_val, self.pixels = maps.flatten(1).contiguous(), pad_val, shape[1] * shape[2]

    def choose(self, draw: np.ndarray) -> np.ndarray:
        """Which way for each image: (N, draws) to int64 (N, )."""
        raise NotImplementedError

    def shown(self, draw: np.ndarray, device: torch.device) -> Tensor:
        """The number of the pixel that each place of each image shows, int64 (N, h * w)."""
        self.maps = self.maps.to(device)
        return self.maps.index_select(0, torch.from_numpy(self.choose(draw)).to(device))

    def __call__(self, images: Tensor, draw: np.ndarray) -> Tensor:
        pixels = images.flatten(2)
        if self.pad_val is not None:
            pixels = torch.cat(
                [pixels, self.pad_val.to(images.device)[:, None].expand(len(images), -1, 1)], dim=2)
        shown = self.shown(draw, images.device)[:, None].expand(-1, pixels.shape[1], -1)
        return pixels.gather(2, shown).unflatten(2, self.shape[1:])


class BatchedRandomCrop(PixelMaps):
    """``RandomCrop``. (Its ``padding_mode`` is that of ``pad_if_needed``: what ``padding`` adds always is
    ``pad_val``.)

    There is a map for each place of the crop, up to :data:`LARGEST_MAPS` numbers together. Larger crops (224
    out of 256 pixels have 1089 places, 437 MB of maps) look at the padded image instead.

    Attributes:
        padded: int64, the numbers of the pixels of the padded image; None where there are maps.
    """
    draws = 2

    def __init__(self, transform: RandomCrop, shape: Tuple[int, int, int]) -> None:
        channels, height, width = shape
        # mmcv pads the numbers of the pixels
        source = np.arange(height * width, dtype=np.int32).reshape(height, width)
        if transform.padding is not None:
            source = mmcv.impad(source, padding=transform.padding, pad_val=-1)
        if transform.pad_if_needed:
            high, wide = (-(-max(0, wanted - there) // 2)
                          for wanted, there in zip(transform.crop_size, source.shape))
            source = mmcv.impad(source, padding=(wide, high, wide, high), pad_val=-1,
                                padding_mode=transform.padding_mode)
        pad_val = None
        if (source < 0).any():
            corner = mmcv.impad(np.zeros((1, 1, channels), np.uint8), padding=1,
                                pad_val=transform.pad_val).reshape(9, channels)[0]
            pad_val = torch.from_numpy(corner.copy())
            source[source < 0] = height * width
        size = [min(wanted, there) for wanted, there in zip(transform.crop_size, source.shape)]
        padded = torch.from_numpy(source.copy()).long()
        maps = windows(padded, size)
        self.places = maps.shape[:2]  # from the top, from the left
        self.padded = padded if maps.numel() > LARGEST_MAPS else None
        super().__init__(transform, shape,
                         maps.flatten(0, 1) if self.padded is None else maps[0, :1], pad_val)

    def shown(self, draw: np.ndarray, device: torch.device) -> Tensor:
        if self.padded is None:
            return super().shown(draw, device)
        self.padded = self.padded.to(device)
        places = (torch.from_numpy(place).to(device)
                  for place in np.divmod(self.choose(draw), self.places[1]))
        return windows(self.padded, self.shape[1:])[tuple(places)].flatten(1)

    def choose(self, draw: np.ndarray) -> np.ndarray:
        return whole(draw[:, 0], self.places[0]) * self.places[1] + whole(draw[:, 1], self.places[1])


class BatchedRandomFlip(PixelMaps):
    """``RandomFlip``, in one or several directions."""
    draws = 1

    def __init__(self, transform: RandomFlip, shape: Tuple[int, int, int]) -> None:
        directions = [transform.direction] if isinstance(transform.direction, str) else list(
            transform.direction)
        count = len(directions)
        probabilities = transform.prob if isinstance(transform.prob,
                                                     list) else [transform.prob / count] * count
        self.bounds = np.cumsum(probabilities)
        numbers = torch.arange(shape[1] * shape[2]).reshape(shape[1:])
        super().__init__(
            transform, shape,
            torch.stack([*(numbers.flip(DIMENSIONS[direction]) for direction in directions), numbers]))

    def choose(self, draw: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.bounds, draw[:, 0], side='right')  # the last is: not at all


class BothMaps(PixelMaps):
    """Two after another at the price of one: K1 * K2 ways."""

    def __init__(self, first: PixelMaps, second: PixelMaps) -> None:
        self.first, self.second, self.draws = first, second, first.draws + second.draws
        outside = torch.full((len(first.maps), 1), first.pixels)
        # (K1, K2, h * w): the second's numbers are looked up in the first's
        maps = torch.cat([first.maps, outside], dim=1)[:, second.maps].flatten(0, 1).unflatten(
            1, second.shape[1:])
        pad_val = second.pad_val if first.pad_val is None else first.pad_val
        super().__init__(None, (first.shape[0], 1, first.pixels), maps, pad_val)

    @staticmethod
    def is_possible(first: BatchedTransform, second: BatchedTransform) -> bool:
        if not all(
                isinstance(step, PixelMaps) and getattr(step, 'padded', None) is None
                for step in (first, second)):
            return False
        return (first.pad_val is None
                or second.pad_val is None) and len(first.maps) * second.maps.numel() <= LARGEST_MAPS

    def choose(self, draw: np.ndarray) -> np.ndarray:
        first, second = np.split(draw, [self.first.draws], axis=1)
        return self.first.choose(first) * len(self.second.maps) + self.second.choose(second)


class BatchedRandomErasing(BatchedTransform):
    """``RandomErasing``. Colours of noise are made of two more numbers, of those images alone that are
    erased."""

    def __init__(self, transform: RandomErasing, shape: Tuple[int, int, int]) -> None:
        super().__init__(transform, shape)
        self.draws = 7 if transform.mode == 'rand' else 5
        if transform.mode == 'const' or transform.fill_std is not None:
            require_colour('RandomErasing', 'fill_color', transform.fill_color, shape[0])
        self.log_aspects = np.log(np.array(transform.aspect_range, dtype=np.float32)).astype(np.float64)

    def __call__(self, images: Tensor, draw: np.ndarray) -> Tensor:
        transform, (_, height, width) = self.transform, self.shape
        erased, aspect, area, top, left = draw[:, :5].T
        aspect = np.exp(between(aspect, *self.log_aspects))
        area = height * width * between(area, transform.min_area_ratio, transform.max_area_ratio)
        high = np.minimum(np.sqrt(area * aspect).round().astype(np.int64), height)
        wide = np.minimum(np.sqrt(area / aspect).round().astype(np.int64), width)
        top, left = whole(top, height - high), whole(left, width - wide)
        where = erased < transform.erase_prob
        edges = top, top + high, left, left + wide
        if transform.mode == 'const':
            return filled(images, colour(transform.fill_color), *edges, where)
        chosen = np.flatnonzero(where)
        if len(chosen) == 0:
            return images
        rows = torch.from_numpy(chosen).to(images.device)
        noisy = filled(images[rows], self._noise(draw[chosen, 5:]), *(edge[chosen] for edge in edges),
                       where[chosen])
        return images.index_copy(0, rows, noisy)

    def _noise(self, draw: np.ndarray) -> Tensor:
        """Two numbers of an image, (N, 2), to a colour for each of its pixels, uint8 (N, C, H, W)."""
        transform = self.transform
        counters = (draw * 2.0**32).astype(np.int64)  # the draws are multiples of 2**-32
        draw = torch.from_numpy(uniforms(0, counters[:, 0], counters[:, 1], int(np.prod(
            self.shape)))).unflatten(1, self.shape)
        if transform.fill_std is None:
            return (draw * 256).to(torch.uint8)
        mean, std = (torch.tensor(value, dtype=torch.float64).reshape(-1, 1, 1)
                     for value in (transform.fill_color, transform.fill_std))
        normal = torch.special.ndtri(draw.clamp(2.0**-33, 1 - 2.0**-33))
        return (mean + std * normal).to(torch.int32).clamp(0, 255).to(torch.uint8)


class BatchedCutout(BatchedTransform):
    """``Cutout`` of a fixed ``shape``."""
    draws = 3

    def __init__(self, transform: Cutout, shape: Tuple[int, int, int]) -> None:
        if transform.shape is None:
            raise ConfigError(f'ckd_mm.InMemory: Cutout(magnitude_range={transform.magnitude_range}) is not '
                              'known here, only '
                              f'Cutout(shape=...) is; {LEAVE_OUT}')
        super().__init__(transform, shape)
        self.hole = (transform.shape, ) * 2 if isinstance(transform.shape, int) else tuple(transform.shape)
        pad_val = [transform.pad_val] if isinstance(transform.pad_val, (int, float)) else transform.pad_val
        require_colour('Cutout', 'pad_val', pad_val, shape[0])
        self.pad_val = colour(pad_val)

    def __call__(self, images: Tensor, draw: np.ndarray) -> Tensor:
        edges = []
        for number, (length, hole) in enumerate(zip(self.shape[1:], self.hole), start=1):
            middle = between(draw[:, number], length,
                             1)  # mmcv calls np.random.uniform(length), whose other end is 1, not 0
            start = np.maximum(0, middle - hole / 2).astype(np.int64)
            edges += [start, np.minimum(length, start + hole)]
        return filled(images, self.pad_val, *edges, draw[:, 0] < self.transform.prob)


def windows(image: Tensor, size: Sequence[int]) -> Tensor:
    """All parts of that size, as a view: (H, W) to (places from the top, places from the left, h, w)."""
    return image.unfold(0, size[0], 1).unfold(1, size[1], 1)


def whole(draw: np.ndarray, count) -> np.ndarray:
    """0, ..., ``count`` - 1, each as likely; 0 where there is none."""
    return (draw * count).astype(np.int64)


def between(draw: np.ndarray, low: float, high: float) -> np.ndarray:
    return low + (high - low) * draw


def require_colour(transform: str, key: str, values: Sequence[float], channels: int) -> None:
    """
    Raises:
        ConfigError: it is the colour of images of other channels. (Grey images would silently get three.)
    """
    if len(values) not in (1, channels):
        raise ConfigError(f'ckd_mm.InMemory: {transform}({key}={values!r}) is a colour of {len(values)} '
                          'channels, and the images have '
                          f'{channels}; give one number for each of them, or leave {transform} out')


def colour(values: Sequence[float]) -> Tensor:
    """uint8 (C, 1, 1)."""
    return torch.from_numpy(np.array(values, dtype=np.uint8)).reshape(-1, 1, 1)


def filled(images: Tensor, colours: Tensor, top: np.ndarray, bottom: np.ndarray, left: np.ndarray,
           right: np.ndarray, where: np.ndarray) -> Tensor:
    """Images whose rectangles from ``top`` to before ``bottom`` and from ``left`` to before ``right``, (N, )
    each, show the colours."""
    rows, columns = (np.arange(length) for length in images.shape[-2:])
    high = (rows >= top[:, None]) & (rows < bottom[:, None]) & where[:, None]
    wide = (columns >= left[:, None]) & (columns < right[:, None])
    hole = torch.from_numpy(high[:, None, :, None] & wide[:, None, None, :]).to(images.device)
    return torch.where(hole, colours.to(images.device), images)


# exactly these classes: a subclass may do anything
BATCHED: Dict[type, type] = {
    RandomCrop: BatchedRandomCrop, RandomFlip: BatchedRandomFlip, RandomErasing: BatchedRandomErasing,
    Cutout: BatchedCutout
}


def batched(transforms: Sequence[Any], shape: Tuple[int, int, int]) -> List[BatchedTransform]:
    """mmpretrain's transforms one after another, for images that are (C, H, W) at first."""
    made: List[BatchedTransform] = []
    for transform in transforms:
        then = BATCHED[type(transform)](transform, made[-1].shape if made else shape)
        made.append(BothMaps(made.pop(), then) if made and BothMaps.is_possible(made[-1], then) else then)
    return made
