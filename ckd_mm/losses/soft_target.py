"""The soft target that M teachers make of an image: all that a distillation loss needs of them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..compat import full_precision
from ..validate import check_choice
from .divergence import kl_divergence

AGGREGATIONS = ('prob', 'logit', 'loss')
SMALLEST_DEVIATION = 1e-6  # below it, logits to be standardised are constant but for rounding


class SoftTarget(NamedTuple):
    log_p: Tensor  # (N, C): log of the softened probabilities, float32 or float64
    spread: Tensor | None = None  # (N,), nats: divergence of the teachers around it; None is 0
    predicted: Tensor | None = None  # (N,): the class that the teachers predict together, where it is needed

    def first(self, count: int) -> 'SoftTarget':
        """The targets of the first ``count`` images."""
        return SoftTarget(*(None if part is None else part[:count] for part in self))


def soft_target(teacher_logits: Tensor | SoftTarget, tau: float, aggregation: str = 'prob',
                teacher_weights: Sequence[float] | None = None, standardize: bool = False) -> SoftTarget:
    r"""With P_m = softmax(teacher_m / tau) and w_m the weights, which sum to one:

    - ``prob``: :math:`P = \sum_m w_m P_m`, Eq. 2 of CheckpointKD;
    - ``loss``: the same P, and the spread :math:`\sum_m w_m KL(P_m \| P)`. Cross-entropy is linear in its
      target, so :math:`\sum_m w_m KL(P_m \| q) = KL(P \| q) + spread` for every q: Eq. 4 and 5 of DIH;
    - ``logit``: :math:`P = softmax(\sum_m w_m teacher_m / \tau)`, the CheckpointKD authors' code.

    An image's target depends on that image alone, so it can be cached, and its size does not grow with M.

    Args:
        teacher_logits: (M, N, C), or (N, C) of one teacher. A soft target is returned as it is.
        tau: temperature, above 0.
        teacher_weights: M numbers, scaled here to sum to one; default: equal.
        standardize: each teacher's logits, see :func:`scaled`.

    Raises:
        ValueError: another shape, another number of weights than teachers, or an unknown aggregation.
    """
    if isinstance(teacher_logits, SoftTarget):
        return teacher_logits
    check_choice('aggregation', aggregation, AGGREGATIONS)
    if teacher_logits.dim() not in (2, 3):
        raise ValueError(f'teacher logits {tuple(teacher_logits.shape)} should be (M, N, C)')
    teacher_logits = teacher_logits if teacher_logits.dim() == 3 else teacher_logits[None]
    count = len(teacher_logits)
    given = [1.0] * count if teacher_weights is None else list(teacher_weights)
    if len(given) != count:
        raise ValueError(f'teacher_weights={given} should be {count} numbers, one for each teacher')
    with full_precision(teacher_logits.device.type):
        logits = scaled(teacher_logits, tau, standardize)
        total = math.fsum(given)
        weights = logits.new_tensor([weight / total for weight in given])
        if aggregation == 'logit' and count > 1:
            logits, weights = torch.einsum('m,mnc->nc', weights, logits)[None], weights.new_ones(1)
        log_p = F.log_softmax(logits, dim=2)
        # the log of the mean probability; of one teacher it is log_p itself
        log_mean = torch.logsumexp(log_p + weights.log()[:, None, None], dim=0)
        if aggregation != 'loss' or count == 1:
            return SoftTarget(log_mean)
        return SoftTarget(log_mean, (weights[:, None] * kl_divergence(log_p, log_mean)).sum(dim=0))


def student_log_probabilities(logits: Tensor, target: SoftTarget, tau: float,
                              standardize: bool = False) -> Tensor:
    """log softmax(student / tau) for logits (N, C).

    Raises:
        ValueError: the target is of other images or classes.
    """
    if target.log_p.shape != logits.shape:
        raise ValueError(f'teacher logits {tuple(target.log_p.shape)} should have the (N, C) of the student, '
                         f'{tuple(logits.shape)}: do teacher and student have the same classes?')
    return F.log_softmax(scaled(logits, tau, standardize), dim=1)


def scaled(logits: Tensor, tau: float, standardize: bool = False) -> Tensor:
    r"""Logits (..., C) / tau, in float32 or float64.

    ``standardize`` takes z-scores of each image before, :math:`(z - mean(z)) / std(z)` over the C classes,
    and 0 for constant ones: "Logit Standardization in Knowledge Distillation" (CVPR 2024, arXiv 2403.01427),
    Algorithm 1. The authors' code divides by the deviation of a sample (C - 1), which makes its temperature
    sqrt(C / (C - 1)) times ours.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if standardize:
        centred = logits - logits.mean(dim=-1, keepdim=True)
        variance = centred.square().mean(dim=-1, keepdim=True)
        logits = centred / variance.clamp_min(SMALLEST_DEVIATION**2).sqrt()
    return logits / tau


def ensemble_prediction(teacher_logits: Tensor) -> Tensor:
    """The class (N,) with the largest mean of the M softmax outputs, for logits (M, N, C)."""
    return teacher_logits.float().softmax(dim=2).mean(dim=0).argmax(dim=1)
