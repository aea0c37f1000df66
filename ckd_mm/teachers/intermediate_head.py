"""A classifier on a feature map (DIH, Eq. 3)."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from mmpretrain.models.heads import LinearClsHead
from mmpretrain.models.losses import CrossEntropyLoss
from torch import Tensor

from ..registry import MODELS
from ..validate import check_choice, check_int

KINDS = ('flatten', 'pool')
GRID = 4
POOLED_FROM = 64  # pixels


def default_kind(input_shape: Sequence[int]) -> str:
    """``flatten`` for images (3, H, W) below 64 pixels, as in the paper; ``pool`` from there on: flattened,
    ResNet-34's first stage at 224 pixels would need 200,704 x 1,000 weights."""
    return 'pool' if max(input_shape[-2:]) >= POOLED_FROM else 'flatten'


@MODELS.register_module()
class IntermediateHead(LinearClsHead):
    """z = W a + b, where a is a feature map as one vector.

    Eq. 3 of DIH (arXiv 2103.00497) puts a function g around it, "e.g. ReLU". Here, as in the authors' code,
    it is the identity, since logits that cannot be negative make poor teachers, and weights begin as torch's.

    Args:
        shape: of the map, (channels, H, W), or (channels, ) where a backbone has pooled it already.
        kind: ``flatten`` takes the map as it is (the paper), ``pool`` its average over a grid.
        grid: side of that grid; a map that is smaller stays as it is.
    """

    def __init__(self, num_classes: int, shape: Sequence[int], kind: str = 'flatten',
                 grid: int = GRID) -> None:
        check_choice('kind', kind, KINDS)
        check_int('grid', grid, at_least=1)
        size = tuple(shape[1:])
        pooled = tuple(min(grid, side) for side in size) if kind == 'pool' else size
        # a loss that is built already: within mmrazor's scope the name of mmpretrain's means nothing
        super().__init__(num_classes, shape[0] * math.prod(pooled), init_cfg=None, loss=CrossEntropyLoss())
        self.kind, self.grid = kind, grid
        self.pooled_to = pooled if pooled != size else None

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """The last map of ``feats``, (N, channels, H, W) or (N, channels), as (N, in_channels)."""
        features = feats[-1]
        if self.pooled_to is not None:
            features = F.adaptive_avg_pool2d(features, self.pooled_to)
        return features.flatten(1)
