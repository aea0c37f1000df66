"""ResNets of 6n+2 layers for small images."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmpretrain.models.backbones import ResNet_CIFAR
from mmpretrain.models.backbones.resnet import BasicBlock
from torch import Tensor, nn

from ..errors import ConfigError
from ..registry import MODELS
from ..validate import check_choice, check_int
from .stages import INIT, stage_indices


class PadShortcut(nn.Module):
    """Option A: every ``stride``-th pixel, and zeros for new channels, half of them on each side."""

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels, self.stride = new_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        before = self.new_channels // 2
        return F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, before, self.new_channels - before))


@MODELS.register_module()
class CIFARResNet(ResNet_CIFAR):
    """ResNet of 6n+2 layers (arXiv 1512.03385, Section 4.2): three stages of n basic blocks.

    Images (N, in_channels, H, W) become maps of ``base_channels`` x (1, 2, 4) channels at 1, 1/2, 1/4 size.

    Args:
        depth: 6n+2, such as 8, 14, 20, 32, 56, 110.
        base_channels: of the first stage. 8x4 and 32x4 have stem_channels=32, base_channels=64.
        shortcut: where the shape changes. ``A`` subsamples and pads with zeros, as He et al. on CIFAR and the
            code of CheckpointKD's authors; ``B`` is a 1x1 convolution with BatchNorm, as RepDistiller,
            mdistiller and DIH's sizes have it.
        out_indices: stages to return, 0 to 2.
        options: further ones of mmpretrain's ResNet, such as ``frozen_stages``.
    """
    arch_settings = {6 * n + 2: (BasicBlock, (n, n, n)) for n in range(1, 201)}

    def __init__(self, depth: int, in_channels: int = 3, stem_channels: int = 16, base_channels: int = 16,
                 shortcut: str = 'B', out_indices: Sequence[int] = (2, ), init_cfg=INIT, **options) -> None:
        if type(depth) is not int or depth not in self.arch_settings:
            raise ConfigError(f'depth={depth!r} should be 6n+2, from 8 to 1202: 8, 14, 20, 26, 32, ...')
        check_choice('shortcut', shortcut, ('A', 'B'))
        for name, channels in dict(in_=in_channels, stem_=stem_channels, base_=base_channels).items():
            check_int(f'{name}channels', channels, at_least=1)
        if shortcut == 'A' and base_channels < stem_channels:
            raise ConfigError(f"shortcut='A' adds channels: base_channels={base_channels} should be at least "
                              f'stem_channels={stem_channels}')
        super().__init__(depth, in_channels=in_channels, stem_channels=stem_channels,
                         base_channels=base_channels, num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1),
                         out_indices=stage_indices(out_indices, 3), zero_init_residual=False,
                         init_cfg=init_cfg, **options)
        if shortcut == 'A':
            for name in self.res_layers:
                block = getattr(self, name)[0]
                if block.downsample is not None:
                    block.downsample = PadShortcut(block.out_channels - block.in_channels, block.stride)
