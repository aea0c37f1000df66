"""MobileNetV2 for small images."""

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.utils import InvertedResidual
from torch import Tensor, nn

from ..registry import MODELS
from ..validate import check_int, check_number
from .stages import INIT, stage_indices

BATCH_NORM = dict(type='BN')


@MODELS.register_module()
class MobileNetV2CIFAR(BaseBackbone):
    """MobileNetV2 (arXiv 1801.04381) as the distillation literature trains it on 32x32 and 64x64 images.

    It comes from Route Constrained Optimization (arXiv 1904.09149): CheckpointKD has width 0.75, RepDistiller
    and mdistiller 0.5. Other than in mmpretrain's, the second stage has stride 1, ReLU stands for ReLU6,
    blocks of expansion 1 keep their first 1x1 convolution, and w x c channels are cut to a whole number, not
    rounded to a multiple of 8 (width 0.75: stem 24, stages 12, 18, 24, 48, 72, 120, 240).

    Images (N, in_channels, H, W) become maps at 1/2, 1/2, 1/4, 1/8, 1/8, 1/16, 1/16, 1/16 of the size.

    Args:
        widen_factor: width multiplier w. The last convolution has at least 1280 channels.
        out_indices: stages to return, 0 to 6; 7 is the last convolution.
    """
    # expansion, channels at width 1, blocks, stride of the first
    arch_settings = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                     (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self, widen_factor: float = 1.0, in_channels: int = 3, out_indices: Sequence[int] = (7, ),
                 init_cfg=INIT) -> None:
        # below 1/16 the first stage has no channel
        check_number('widen_factor', widen_factor, at_least=1 / 16, at_most=64)
        check_int('in_channels', in_channels, at_least=1)
        super().__init__(init_cfg)
        self.out_indices = stage_indices(out_indices, 8)
        channels = int(32 * widen_factor)
        self.stem = ConvModule(in_channels, channels, 3, stride=2, padding=1, norm_cfg=BATCH_NORM)
        self.stages = nn.ModuleList()
        for expansion, width, blocks, stride in self.arch_settings:
            stage = []
            for index in range(blocks):
                if expansion == 1:  # which InvertedResidual takes for no expansion
                    stage.append(ConvModule(channels, channels, 1, norm_cfg=BATCH_NORM))
                stage.append(InvertedResidual(channels, int(width * widen_factor), expansion * channels,
                                              stride=1 if index else stride, norm_cfg=BATCH_NORM))
                channels = int(width * widen_factor)
            self.stages.append(nn.Sequential(*stage))
        self.stages.append(ConvModule(channels, int(1280 * max(1, widen_factor)), 1, norm_cfg=BATCH_NORM))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps[index] for index in self.out_indices)
