"""Densely connected networks for small images."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.backbones.densenet import DenseTransition
from torch import Tensor, nn

from ..errors import ConfigError
from ..registry import MODELS
from ..validate import check_int
from .stages import INIT, stage_indices


class PlainDenseLayer(BaseModule):
    """BatchNorm, ReLU, one 3x3 convolution, whose ``growth_rate`` channels come behind the input's."""

    def __init__(self, in_channels: int, growth_rate: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, growth_rate, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.conv(F.relu(self.bn(x), inplace=True))), dim=1)


@MODELS.register_module()
class DenseNetCIFAR(BaseBackbone):
    """DenseNet-d-k without bottleneck and compression (arXiv 1608.06993, Sec. 3 and Table 2): three blocks of
    n = (d - 4) / 3 layers, each of which adds k channels. mmpretrain's DenseNet has both, and a stem for 224
    pixels.

    Images (N, in_channels, H, W) become maps of 16+nk, 16+2nk, 16+3nk channels at 1, 1/2, 1/4 of their size.
    The last BatchNorm and ReLU belong to the third; the others are the inputs of transitions.

    Args:
        depth: d = 3n+4, such as 40, 100.
        growth_rate: k, such as 12, 24.
        out_indices: blocks to return, 0 to 2.
    """

    def __init__(self, depth: int, growth_rate: int, in_channels: int = 3, out_indices: Sequence[int] = (2, ),
                 init_cfg=INIT) -> None:
        if type(depth) is not int or depth < 7 or depth % 3 != 1:
            raise ConfigError(f'depth={depth!r} should be 3n+4, at least 7: 7, 10, ..., 40, ..., 100, ...')
        check_int('growth_rate', growth_rate, at_least=1)
        check_int('in_channels', in_channels, at_least=1)
        super().__init__(init_cfg)
        self.out_indices = stage_indices(out_indices, 3)
        layers, stem = (depth - 4) // 3, 16
        widths = [stem + block * layers * growth_rate for block in range(4)]
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(*(PlainDenseLayer(channels, growth_rate)
                            for channels in range(width, width + layers * growth_rate, growth_rate)))
            for width in widths[:3])
        self.transition1, self.transition2 = (DenseTransition(width, width) for width in widths[1:3])
        self.bn = nn.BatchNorm2d(widths[3])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        first = self.layer1(self.conv1(x))
        second = self.layer2(self.transition1(first))
        last = F.relu(self.bn(self.layer3(self.transition2(second))), inplace=True)
        return tuple((first, second, last)[index] for index in self.out_indices)
