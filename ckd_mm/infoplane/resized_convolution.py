"""A convolution of a resized image, without the resized image."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def resized_convolution(inputs: Tensor, convolution: nn.Conv2d, size: tuple) -> Tensor:
    r"""``convolution`` of the inputs (N, F, h, w) resized bilinearly to ``size`` (H, W) with
    ``align_corners``, (N, O, H, W).

    Resizing is a matrix on either side of the image, :math:`U X V^T`, and so is a shift of the result. With
    :math:`U_i` the rows of U shifted by the i-th tap of the kernel, 0 beyond the border,

    .. math:: y_o = b_o + \sum_i U_i \sum_j \Bigl(\sum_f W_{ofij} X_f\Bigr) V_j^T

    Channels are mixed at the small size and no map of F channels and H x W pixels is made: from 512 maps of
    4x4 to 32x32 pixels it is 1/50 of the multiplications.

    Args:
        convolution: square kernel of odd size, stride 1, padded to keep the size.
    """
    rows, columns = (resize_by_tap(small, large, convolution.kernel_size[0], inputs)
                     for small, large in zip(inputs.shape[-2:], size))
    mixed = torch.einsum('ofij,nfhw->noihwj', convolution.weight, inputs)
    wide = torch.einsum('noihwj,Wwj->noihW', mixed, columns)
    return torch.einsum('noihW,Hhi->noHW', wide, rows) + convolution.bias[:, None, None]


def resize_by_tap(small: int, large: int, taps: int, like: Tensor) -> Tensor:
    """(large, small, taps): what each input pixel gives to what each tap of a kernel sees at each output
    pixel."""
    unit = torch.eye(small, dtype=like.dtype, device=like.device)[None]
    resize = F.interpolate(unit, size=large, mode='linear', align_corners=True)[0].T
    return F.pad(resize, (0, 0, taps // 2, taps // 2)).unfold(0, taps, 1)
