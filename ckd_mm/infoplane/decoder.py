"""The decoder that reconstructs images from features."""

from torch import Tensor, nn

from .resized_convolution import resized_convolution


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
        """Features (N, F, h, w) to the logits (before the sigmoid) of an image in [0, 1], (N, channels, H,
        W)."""
        return self.layers[1:](resized_convolution(features, self.layers[0],
                                                   self.size))  # the first is a fraction of the work so
