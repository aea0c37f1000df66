"""Temperature scaling against what it has to find, and the calibration error against a loop."""

import math

import pytest
import torch
import torch.nn.functional as F

from ckd_mm.errors import CkdError
from ckd_mm.evaluation.temperature import expected_calibration_error, fit_temperature


def drawn(temperature: float, images: int = 20000):
    """Logits, and labels that are drawn from their probabilities at this temperature."""
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(images, 6, generator=generator)
    return logits, torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)[:, 0]


@pytest.mark.parametrize('temperature', [0.5, 1.0, 3.0])
def test_it_finds_the_temperature_that_drew_the_labels(temperature):
    logits, labels = drawn(temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    scale = torch.tensor(1 / found, dtype=torch.float64, requires_grad=True)  # the likelihood's one maximum
    slope, = torch.autograd.grad(F.cross_entropy(logits.double() * scale, labels), scale)
    assert abs(slope.item()) < 1e-6
    assert expected_calibration_error(logits / found, labels) < 0.02
    if temperature != 1:
        assert expected_calibration_error(logits, labels) > 0.05


def test_the_calibration_error_is_that_of_the_bins():
    logits, labels = drawn(2.0, images=300)
    probabilities = logits.double().softmax(1)
    bins: dict[int, list] = {}
    for row, label in zip(probabilities, labels.tolist()):
        sure = row.max().item()
        bins.setdefault(math.ceil(sure * 15), []).append((row.argmax().item() == label, sure))
    expected = sum(len(items) / 300 * abs(sum(right for right, _ in items) - sum(sure for _, sure in items))
                   / len(items) for items in bins.values())
    assert expected_calibration_error(logits, labels) == pytest.approx(expected, abs=1e-9)


def test_where_no_temperature_is_best_it_is_said():
    logits = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
    with pytest.raises(CkdError, match=r'no temperature from 0.05 to 20.0 .* 2 images .* 100.0% are right'):
        fit_temperature(logits, torch.tensor([0, 1]))
    with pytest.raises(CkdError, match='0.0% are right'):
        fit_temperature(logits, torch.tensor([1, 0]))
