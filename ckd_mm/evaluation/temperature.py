"""The temperature at which a network's probabilities are as sure as they are right."""

import math

import torch.nn.functional as F
from torch import Tensor

from ..errors import CkdError

BOUNDS = (0.05, 20.0)
STEPS = 60  # each leaves 0.618 of the interval


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T of softmax(logits / T) with the least negative log-likelihood ("On Calibration of Modern Neural
    Networks", ICML 2017, arXiv 1706.04599, Sec. 4.2). The likelihood has one maximum over T: it is searched
    by golden sections of log T.

    Args:
        logits: (N, C).
        labels: (N,), classes.

    Raises:
        CkdError: the best is none between 0.05 and 20, as where all labels have the largest logit.
    """
    logits, low, high = logits.double(), *map(math.log, BOUNDS)

    def loss(value: float) -> float:
        return F.cross_entropy(logits / math.exp(value), labels).item()

    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(STEPS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    temperature = math.exp((low + high) / 2)
    if not BOUNDS[0] * 1.001 < temperature < BOUNDS[1] / 1.001:
        raise CkdError(f'no temperature from {BOUNDS[0]} to {BOUNDS[1]} makes the logits of {len(labels)} '
                       'images likeliest, of which '
                       f'{(logits.argmax(1) == labels).double().mean():.1%} are right: '
                       'more images are needed, which the network was not trained on')
    return temperature


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Mean over images of |accuracy - confidence| of the bin of equal width, of the largest probability, that
    an image falls into (arXiv 1706.04599, Eq. 3), 0 to 1."""
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    gap = (predicted == labels).double() - confidence
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1
    return gap.new_zeros(bins).scatter_add(0, index, gap).abs().sum().item() / len(labels)
