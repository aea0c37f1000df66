"""The fast way gives what resizing and convolving give, and so do its gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from ckd_mm.infoplane.decoder import Decoder, resized_convolution


@pytest.mark.parametrize('small, large, kernel', [
    ((4, 4), (32, 32), 3), ((2, 5), (9, 7), 3), ((1, 1), (8, 8), 3), ((8, 8), (8, 8), 3), ((8, 6), (5, 3), 3),
    ((3, 4), (11, 12), 5), ((3, 3), (1, 1), 3)])
def test_it_is_the_convolution_of_the_resized_maps(small, large, kernel):
    torch.manual_seed(0)
    convolution = nn.Conv2d(6, 4, kernel, padding=kernel // 2).double()
    maps = torch.randn(3, 6, *small, dtype=torch.float64, requires_grad=True)
    expected = convolution(F.interpolate(maps, size=large, mode='bilinear', align_corners=True))
    found = resized_convolution(maps, convolution, large)
    assert_close(found, expected, rtol=1e-11, atol=1e-12)
    weights, sources = torch.randn_like(expected), (maps, convolution.weight, convolution.bias)
    ours, theirs = (torch.autograd.grad((result * weights).sum(), sources) for result in (found, expected))
    assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_the_decoder_is_infopros():
    """Resize, 3x3 convolution, BatchNorm, ReLU, 3x3 convolution, one after the other."""
    torch.manual_seed(0)
    decoder, maps = Decoder(features=6, channels=3, size=(9, 7), widen=2), torch.randn(5, 6, 2, 3)
    resized = F.interpolate(maps, size=(9, 7), mode='bilinear', align_corners=True)
    assert_close(decoder(maps), decoder.layers(resized))
    assert [type(layer).__name__ for layer in decoder.layers] == ['Conv2d', 'BatchNorm2d', 'ReLU', 'Conv2d']
    assert decoder.layers[0].out_channels == 24 and decoder.layers[0].kernel_size == (3, 3)
