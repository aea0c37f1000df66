"""Teachers and student may want inputs of another normalisation and size."""

import copy

import torch
from mmengine.utils import to_2tuple
from mmpretrain.models import ClsDataPreprocessor
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..registry import MODELS
from ..training import type_name


@MODELS.register_module()
class ResizeDataPreprocessor(ClsDataPreprocessor):
    """mmpretrain's, whose batches are then resized on their device. A teacher with this one gets the
    student's inputs at its own size.

    Args:
        input_size: height and width, or one number for both.
    """

    def __init__(self, input_size: int | tuple[int, int], **settings) -> None:
        super().__init__(**settings)
        self.input_size: tuple[int, int] | None = to_2tuple(input_size)

    def forward(self, data: dict, training: bool = False) -> dict:
        data = super().forward(data, training)
        if self.input_size is not None:
            data['inputs'] = resized(data['inputs'], self.input_size)
        return data


def resized(inputs: Tensor, size: tuple[int, int]) -> Tensor:
    """Inputs (N, C, H, W) of another height and width: bilinear, antialiased where they become smaller."""
    if tuple(inputs.shape[-2:]) == tuple(size):
        return inputs
    return F.interpolate(inputs, size, mode='bilinear', antialias=True)


def resizing(preprocessor: dict | None, size: int, name: str) -> dict:
    """The config of a data preprocessor whose inputs get this size.

    Args:
        name: of the setting for messages.

    Raises:
        ConfigError: it is one of another type than mmpretrain's.
    """
    preprocessor = dict(preprocessor or {})
    if type_name(preprocessor) not in ('None', 'ClsDataPreprocessor', 'ResizeDataPreprocessor'):
        raise ConfigError(f'{name}={size}: a data_preprocessor of type {preprocessor["type"]!r} is not known '
                          'to resize; take one of them out')
    return dict(preprocessor, type='ckd_mm.ResizeDataPreprocessor', input_size=size)


def unresizing(preprocessor: nn.Module) -> nn.Module:
    """The same, or one like it that leaves inputs at their size."""
    if getattr(preprocessor, 'input_size', None) is None:
        return preprocessor
    preprocessor = copy.deepcopy(preprocessor)
    preprocessor.input_size = None
    return preprocessor


class Resize(nn.Module):

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, inputs: Tensor) -> Tensor:
        return resized(inputs, self.size)


class InputConverter(nn.Module):
    """x (N, C, H, W) -> x * scale + shift, or flipped along C before."""

    def __init__(self, flip: bool, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.flip = flip
        self.register_buffer('scale', scale.float(), persistent=False)
        self.register_buffer('shift', shift.float(), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs.flip(1) if self.flip else inputs) * self.scale + self.shift


def input_converter(source: nn.Module, target: nn.Module) -> nn.Module:
    """Makes of inputs of the data preprocessor ``source`` those of ``target``; ``nn.Identity`` if they agree.

    Both are mmpretrain's or mmengine's: channel order, mean, standard deviation and, where ``target`` is a
    :class:`ResizeDataPreprocessor`, the size are compared.
    """
    statistics, size = _statistics_converter(source, target), getattr(target, 'input_size', None)
    if size in (None, getattr(source, 'input_size', None)):
        return statistics
    return nn.Sequential(statistics, Resize(size))


def _statistics_converter(source: nn.Module, target: nn.Module) -> nn.Module:
    (source_mean, source_std), (target_mean, target_std) = _statistics(source), _statistics(target)
    flip = _is_flipped(source) != _is_flipped(target)
    if not flip and torch.equal(source_mean, target_mean) and torch.equal(source_std, target_std):
        return nn.Identity()
    if flip:  # pixels are brought back in the source's channel order, then flipped
        source_mean, source_std = source_mean.flip(0), source_std.flip(0)
    return InputConverter(flip, source_std / target_std, (source_mean - target_mean) / target_std)


def _statistics(preprocessor: nn.Module) -> tuple[Tensor, Tensor]:
    if getattr(preprocessor, '_enable_normalize', False):
        mean, std = (getattr(preprocessor, name).detach().cpu().double() for name in ('mean', 'std'))
        return torch.broadcast_tensors(mean, std)
    return torch.zeros(1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64)


def _is_flipped(preprocessor: nn.Module) -> bool:
    return bool(getattr(preprocessor, 'to_rgb', False) or getattr(preprocessor, '_channel_conversion', False))


def rgb_images(inputs: Tensor, preprocessor: nn.Module) -> list:
    """Raw images (N, 3, H, W) of a dataloader, as ``preprocessor`` gets them, as arrays (H, W, 3), RGB."""
    images = inputs.flip(1) if _is_flipped(preprocessor) else inputs
    return list(images.permute(0, 2, 3, 1).cpu().numpy())
