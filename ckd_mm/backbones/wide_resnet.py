"""Wide residual networks for small images."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from ..errors import ConfigError
from ..registry import MODELS
from ..validate import check_int
from .stages import INIT, stage_indices


class PreActivationBlock(BaseModule):
    """BatchNorm, ReLU, convolution, twice; where the width changes, the shortcut takes the activation."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x), inplace=True)
        hidden = F.relu(self.bn2(self.conv1(activated)), inplace=True)
        return self.conv2(hidden) + (x if self.shortcut is None else self.shortcut(activated))


@MODELS.register_module()
class WideResNet(BaseBackbone):
    """WRN-d-k (arXiv 1605.07146): three stages of (d - 4) / 6 pre-activation blocks.

    Images (N, in_channels, H, W) become maps of 16k, 32k, 64k channels at 1, 1/2, 1/4 of the image's size.
    The last BatchNorm and ReLU belong to the third; the others are sums that the next stage activates.

    Args:
        depth: d = 6n+4, such as 16, 28, 40.
        widen_factor: k.
        out_indices: stages to return, 0 to 2.
    """

    def __init__(self, depth: int, widen_factor: int, in_channels: int = 3,
                 out_indices: Sequence[int] = (2, ), init_cfg=INIT) -> None:
        if type(depth) is not int or depth < 10 or depth % 6 != 4:
            raise ConfigError(f'depth={depth!r} should be 6n+4, at least 10: 10, 16, 22, 28, 34, 40, ...')
        check_int('widen_factor', widen_factor, at_least=1)
        check_int('in_channels', in_channels, at_least=1)
        super().__init__(init_cfg)
        self.out_indices = stage_indices(out_indices, 3)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        channels = 16
        for index, width in enumerate((16 * widen_factor, 32 * widen_factor, 64 * widen_factor)):
            blocks = [PreActivationBlock(channels, width, stride=2 if index else 1)]
            blocks += [PreActivationBlock(width, width, stride=1) for _ in range((depth - 4) // 6 - 1)]
            self.add_module(f'layer{index + 1}', nn.Sequential(*blocks))
            channels = width
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        first = self.layer1(self.conv1(x))
        second = self.layer2(first)
        last = F.relu(self.bn(self.layer3(second)), inplace=True)
        return tuple((first, second, last)[index] for index in self.out_indices)
