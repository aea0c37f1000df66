"""Teachers and student may want differently normalised inputs."""

import torch
from torch import Tensor, nn


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

    Both are mmpretrain's or mmengine's: channel order, mean and standard deviation are compared.
    """
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
