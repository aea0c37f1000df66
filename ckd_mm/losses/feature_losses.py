"""Distillation of feature maps: where a network looks, and what a layer computes."""

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..compat import full_precision
from ..registry import MODELS
from ..validate import WEIGHT, check_choice, check_int, check_number

REDUCTIONS = ('mean', 'sum')


def attention_transfer_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    r"""Activation-based attention transfer (Zagoruyko and Komodakis, ICLR 2017, arXiv 1612.03928).

    With Q the attention map of an image, the sum over channels of the squares, scaled to length 1:

    .. math:: mean_{n, h, w} \, (Q^s_{nhw} - Q^t_{nhw})^2

    It is what the authors' code computes, whose weight beta is 1000. Eq. 2 of the paper has :math:`\beta / 2`
    times the norm, not its square, summed over h and w.

    Args:
        student_map: (N, C, H, W).
        teacher_map: (N, D, H, W), D may differ from C.

    Returns:
        A scalar, float32 (or float64 if the maps are).

    Raises:
        ValueError: other shapes.
    """
    if student_map.dim() != 4 or teacher_map.dim() != 4 or (
            student_map.shape[::2], student_map.shape[3]) != (teacher_map.shape[::2], teacher_map.shape[3]):
        raise ValueError('attention is compared of maps (N, C, H, W) of one height and width')
    with full_precision(student_map.device.type):
        student, teacher = (F.normalize(at_least_float(each).square().mean(dim=1).flatten(1))
                            for each in (student_map, teacher_map))
        return (student - teacher).square().mean()


def hint_loss(regressed: Tensor, hint: Tensor, reduction: str = 'sum') -> Tensor:
    r"""FitNets' hint (Romero et al., ICLR 2015, arXiv 1412.6550), Eq. 3.

    .. math:: 1/2 \, \| hint - regressed \|^2

    Args:
        regressed: (N, C, H, W), what a regressor makes of the student's guided layer.
        hint: (N, C, H, W) of the teacher.
        reduction: 'sum' over C, H and W as in Eq. 3; 'mean' is the mean squared error, C * H * W / 2 times
            less, which trains at the learning rates of today.

    Returns:
        Mean over the batch, a scalar, float32 (or float64 if the features are).

    Raises:
        ValueError: two shapes, or another reduction.
    """
    check_choice('reduction', reduction, REDUCTIONS)
    if regressed.shape != hint.shape:
        raise ValueError(f'hints are compared of one shape, not {tuple(regressed.shape)} and '
                         f'{tuple(hint.shape)}')
    with full_precision(regressed.device.type):
        squares = (at_least_float(hint) - at_least_float(regressed)).square()
        return squares.mean() if reduction == 'mean' else squares.sum() / (2 * len(squares))


def at_least_float(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


@MODELS.register_module()
class AttentionTransferLoss(nn.Module):
    """:func:`attention_transfer_loss` with its weight, in float32 even under autocast.

    Args:
        loss_weight: the authors' beta, at least 0.

    Raises:
        ConfigError: naming the setting.
    """

    def __init__(self, loss_weight: float = 1000.0) -> None:
        super().__init__()
        self.loss_weight = check_number('loss_weight', loss_weight, **WEIGHT)

    def forward(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        return self.loss_weight * attention_transfer_loss(student_map, teacher_map)


@MODELS.register_module()
class HintLoss(BaseModule):
    """:func:`hint_loss` behind a regressor, which learns: a convolution and ReLU.

    Args:
        student_channels, teacher_channels: of the two layers.
        kernel_size: of the regressor, without padding; it makes the student's larger maps as small as the
            teacher's (FitNets, Sec. 2.2).
        reduction: 'sum' or 'mean'.
        loss_weight: factor of the loss, at least 0.

    Raises:
        ConfigError: naming the setting.
    """

    def __init__(self, student_channels: int, teacher_channels: int, kernel_size: int = 1,
                 reduction: str = 'sum', loss_weight: float = 1.0, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        sizes = dict(student_channels=student_channels, teacher_channels=teacher_channels,
                     kernel_size=kernel_size)
        self.regressor = ConvModule(*(check_int(name, size, at_least=1) for name, size in sizes.items()))
        self.reduction = check_choice('reduction', reduction, REDUCTIONS)
        self.loss_weight = check_number('loss_weight', loss_weight, **WEIGHT)

    def forward(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        return self.loss_weight * hint_loss(self.regressor(student_map), teacher_map, self.reduction)
