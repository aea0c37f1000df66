"""The decoder that reconstructs images from features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .settings import ProbeSettings

PLACES = 8  # rows and columns of the map that a vector becomes


class Decoder(nn.Module):
    """Bilinear resize to the image, 3x3 conv to 12 * widen channels, BatchNorm, ReLU, 3x3 conv to the image's
    channels.

    The decoder of InfoPro (Wang et al., ICLR 2021, arXiv 2101.10832), which CheckpointKD follows.

    Args:
        features: channels of the features.
        channels: channels of the image.
        size: height and width of the image, pixels.
    """

    def __init__(self, features: int, channels: int, size: tuple, widen: int = 1) -> None:
        super().__init__()
        self.size = tuple(size)
        self.layers = nn.Sequential(
            nn.Conv2d(features, 12 * widen, 3, padding=1), nn.BatchNorm2d(12 * widen), nn.ReLU(),
            nn.Conv2d(12 * widen, channels, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, F, h, w) to the logits (before the sigmoid) of images (N, channels, H, W)."""
        return self.layers[1:](resized_convolution(features, self.layers[0], self.size))


def new_decoder(features: Tensor, image: tuple[int, int, int], settings: ProbeSettings) -> nn.Module:
    """A decoder of maps (N, F, h, w) to images (C, H, W), with the initial weights of ``settings.seed``. A
    vector (N, F) becomes by a linear layer a map of 12 * widen channels and 8 x 8 places before it."""
    widen = settings.decoder_widen
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if features.dim() == 4:
            return Decoder(features.shape[1], image[0], image[1:], widen)
        return nn.Sequential(nn.Linear(features.shape[1], 12 * widen * PLACES**2),
                             nn.Unflatten(1, (12 * widen, PLACES, PLACES)),
                             Decoder(12 * widen, image[0], image[1:], widen))


def resized_convolution(inputs: Tensor, convolution: nn.Conv2d, size: tuple) -> Tensor:
    r"""``convolution`` of the inputs (N, F, h, w) resized bilinearly to ``size`` (H, W) with
    ``align_corners``: (N, O, H, W), at a fraction of the work.

    Resizing is a matrix on either side of the image, :math:`U X V^T`, and so is a shift of the result. With
    :math:`U_i` the rows of U shifted by the i-th tap of the kernel, 0 beyond the border,

    .. math:: y_o = b_o + \sum_i U_i \sum_j \Bigl(\sum_f W_{ofij} X_f\Bigr) V_j^T

    Channels are mixed at the small size, and no map of F channels and H x W pixels is made: from 512 maps of
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
    """(large, small, taps): the weight of each input pixel in what each tap reads at each output pixel."""
    unit = torch.eye(small, dtype=like.dtype, device=like.device)[None]
    resize = F.interpolate(unit, size=large, mode='linear', align_corners=True)[0].T
    return F.pad(resize, (0, 0, taps // 2, taps // 2)).unfold(0, taps, 1)
