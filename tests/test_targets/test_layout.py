"""What is stored of a target, and what is read back."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ckd_mm.errors import ConfigError
from ckd_mm.losses import SoftTarget
from ckd_mm.targets import Layout, target_file
from ckd_mm.targets.layout import image_checksum

from .conftest import made


def there_and_back(layout: Layout, target: SoftTarget) -> SoftTarget:
    return layout.decode(layout.encode(target, torch.zeros(len(target.log_p))))


def test_float32_is_stored_bit_for_bit():
    target = made()
    for stored, given in zip(there_and_back(Layout(6, 2, 7, 3, spread=True), target), target):
        assert torch.equal(stored, given)


def test_float16_is_close_and_sums_to_one():
    target = made(classes=100)
    stored = there_and_back(Layout(6, 2, 100, 3, 'float16'), target)
    assert stored.spread is None and torch.equal(stored.predicted, target.predicted)
    torch.testing.assert_close(stored.log_p.exp().sum(dim=1), torch.ones(12), rtol=0, atol=2e-6)
    assert not torch.equal(stored.log_p, target.log_p)
    # half of the last place, and what the sum moves
    torch.testing.assert_close(stored.log_p, target.log_p, rtol=2**-10, atol=2e-2)


@pytest.mark.parametrize('dtype,tolerance', [('float32', 1e-6), ('float16', 2e-3)])
def test_top_k_and_the_rest_worked_out_on_paper(dtype, tolerance):
    """Of 0.5, 0.2, 0.15, 0.1, 0.05 the first two are stored, and each other gets a third of 0.3."""
    target = SoftTarget(torch.tensor([[0.15, 0.5, 0.05, 0.2, 0.1]]).log(), None, torch.tensor([1]))
    layout = Layout(1, 1, 5, dtype=dtype, top_k=2)
    assert layout.encode(target, torch.zeros(1))['top'].tolist() == [[1, 3]]
    expected = torch.tensor([[0.1, 0.5, 0.1, 0.2, 0.1]])
    torch.testing.assert_close(there_and_back(layout, target).log_p.exp(), expected, rtol=0, atol=tolerance)


def test_a_rest_too_small_for_a_difference_is_stored():
    """1 minus the largest is 0 in float32, but the others' share is known: e^-40 each."""
    target = SoftTarget(torch.tensor([[40.0, 0.0, 0.0, 0.0]]).log_softmax(dim=1), None, torch.tensor([0]))
    torch.testing.assert_close(there_and_back(Layout(1, 1, 4, top_k=1), target).log_p, target.log_p)


@pytest.mark.parametrize('top_k', [None, 2])
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_sure_teachers_give_no_infinite_loss(dtype, top_k):
    target = SoftTarget(torch.tensor([[1e5, 0.0, 0.0, 0.0]]).log_softmax(dim=1), None, torch.tensor([0]))
    stored = there_and_back(Layout(1, 1, 4, dtype=dtype, top_k=top_k), target)
    student = torch.zeros(1, 4).log_softmax(dim=1)
    loss = F.kl_div(student, stored.log_p, reduction='batchmean', log_target=True)
    assert loss.item() == pytest.approx(math.log(4))


@pytest.mark.parametrize('layout,expected', [
    (Layout(50000, 10, 100), 500_000 * (100 * 4 + 2 + 4)),
    (Layout(1_281_167, 1, 1000, 8, 'float16'), 1_281_167 * (1000 * 2 + 2 + 4)),
    (Layout(1_281_167, 1, 1000, 8, 'float16', top_k=16), 1_281_167 * (17 * 2 + 16 * 2 + 2 + 4)),
    (Layout(10, 1, 40000, 2, top_k=3, spread=True), 10 * (4 * 4 + 3 * 4 + 4 + 4 + 4))])
def test_bytes(layout, expected):
    assert layout.bytes == expected


@pytest.mark.parametrize('top_k', [0, 7])
def test_all_classes_are_not_the_largest(top_k):
    with pytest.raises(ConfigError, match=f'top_k={top_k} should be at least 1 and below the number of clas'):
        Layout(6, 2, 7, top_k=top_k)


@pytest.mark.parametrize('size', [32, 224])
def test_a_checksum_tells_smooth_images_apart(size):
    """Of 8x8 spots, blown up: neighbours are as like each other as those of a blurred photograph. Rounding is
    far below."""
    spots = torch.randn(100, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images = F.interpolate(spots, size=(size, size), mode='bilinear')
    checksums, tolerance = image_checksum(images), target_file.TOLERANCE
    for other in (images.flip(3), images.flip(2), images.roll(1, dims=3), images.roll(1, dims=2)):
        assert ((checksums - image_checksum(other)).abs() > tolerance).float().mean() >= 0.95
    signs = torch.from_numpy(np.random.RandomState(0).randint(0, 2, 3 * size * size) * 2.0 - 1)
    exact = (images.double().flatten(1) * signs).sum(dim=1) / (3 * size * size)**0.5
    assert (checksums - exact).abs().max() < tolerance / 20
    last = image_checksum(images.contiguous(memory_format=torch.channels_last))
    assert (last - checksums).abs().max() < tolerance / 20


def test_the_signs_of_a_checksum_are_the_same_everywhere():
    """0, 1, 1, 0, 1, 1: the first bits that numpy's RandomState(0) has given ever since."""
    checksums = image_checksum(torch.eye(6).view(6, 3, 1, 2))
    torch.testing.assert_close(checksums, torch.tensor([-1.0, 1, 1, -1, 1, 1]) / 6**0.5)


def test_a_checksum_is_not_rounded_by_mixed_precision():
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside = image_checksum(images)
    assert torch.equal(inside, image_checksum(images))
