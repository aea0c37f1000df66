"""The target that M teachers make of an image: all that a student needs to know of them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..compat import full_precision
from ..validate import check_choice

AGGREGATIONS = ('prob', 'logit', 'loss')
SMALLEST_DEVIATION = 1e-6  # of logits that are standardised: below it they are constant but for rounding


class SoftTarget(NamedTuple):
    """
    Args:
        log_p: log of the softened probabilities that the student is to predict, (N, C), float32 or float64.
        spread: how far the teachers lie around it, (N,) in nats: a part of the loss that is constant for the
            student. None: 0.
        predicted: the class that the teachers predict together, (N,); None where it is not needed.
    """
    log_p: Tensor
    spread: Tensor | None = None
    predicted: Tensor | None = None

    def first(self, count: int) -> 'SoftTarget':
        """Of the first so many images."""
        return SoftTarget(*(None if part is None else part[:count] for part in self))


def soft_target(teacher_logits: Tensor, tau: float, aggregation: str = 'prob',
                teacher_weights: Sequence[float] | None = None, standardize: bool = False) -> SoftTarget:
    r"""The target of M teachers. With P_m = softmax(teacher_m / tau) and w_m the weights, which sum to one:

    - ``prob``: :math:`P = \sum_m w_m P_m`;
    - ``loss``: the same P, and the spread :math:`\sum_m w_m KL(P_m \| P)`, so that :math:`\sum_m w_m KL(P_m
      \| q) = KL(P \| q) + spread` for every q: cross-entropy is linear in its target;
    - ``logit``: :math:`P = softmax(\sum_m w_m teacher_m / \tau)`.

    An image's target depends on that image alone, so it can be cached (:mod:`ckd_mm.targets`), and its size
    does not grow with M.

    Args:
        teacher_logits: (M, N, C); (N, C) is taken as one teacher.
        tau: temperature, above 0.
        aggregation: 'prob', 'logit' or 'loss'.
        teacher_weights: M numbers, scaled here to sum to one; default: equal.
        standardize: each teacher's logits, see :func:`standardized`.

    Raises:
        ValueError: another number of weights than teachers, or an unknown aggregation.
    """
    check_choice('aggregation', aggregation, AGGREGATIONS)
    if teacher_logits.dim() == 2:
        teacher_logits = teacher_logits[None]
    weights = _weights(teacher_logits, teacher_weights)
    with full_precision(teacher_logits.device.type):
        teacher_logits = at_least_float(teacher_logits)
        if standardize:
            teacher_logits = standardized(teacher_logits)
        scaled = teacher_logits / tau
        if aggregation == 'logit':
            scaled = torch.einsum('m,mnc->nc', weights, scaled)[None] if len(scaled) > 1 else scaled
            weights = weights.new_ones(1)
        log_p = F.log_softmax(scaled, dim=2)
        # the log of the mean probability; of one teacher it is log_p itself
        log_mean = torch.logsumexp(log_p + weights.log()[:, None, None], dim=0)
        spread = None
        if aggregation == 'loss' and len(scaled) > 1:
            spread = (weights[:, None] * (log_p.exp() * (log_p - log_mean)).sum(dim=2)).sum(dim=0)
        return SoftTarget(log_mean, spread)


def ensemble_prediction(teacher_logits: Tensor) -> Tensor:
    """The class (N,) that M teachers of logits (M, N, C) predict together: the largest mean of their M
    softmax outputs."""
    return teacher_logits.float().softmax(dim=2).mean(dim=0).argmax(dim=1)


def require_same_shape(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """
    Raises:
        ValueError: student logits (N, C) and teacher logits (M, N, C), or (N, C), do not fit each other.
    """
    if teacher_logits.dim() == 2:
        teacher_logits = teacher_logits[None]
    if teacher_logits.dim() != 3 or teacher_logits.shape[1:] != student_logits.shape:
        raise ValueError(f'teacher logits {tuple(teacher_logits.shape)} should be (M, N, C) with the (N, C) '
                         f'of the student, {tuple(student_logits.shape)}: do teacher and student have the '
                         'same classes?')


def standardized(logits: Tensor) -> Tensor:
    r"""Z-scores of each image's logits, :math:`(z - mean(z)) / std(z)` over the C classes: the student learns
    how the teacher ranks and spaces the classes, not how large its logits are.

    "Logit Standardization in Knowledge Distillation" (Sun et al., CVPR 2024, arXiv 2403.01427), Algorithm 1,
    which divides by the standard deviation of the C values themselves. The authors' code takes that of a
    sample (C - 1), which makes its temperature sqrt(C / (C - 1)) times ours.

    Args:
        logits: (..., C), float32 or float64. Constant ones become 0, with finite gradients.
    """
    centred = logits - logits.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return centred / variance.clamp_min(SMALLEST_DEVIATION**2).sqrt()


def at_least_float(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _weights(teacher_logits: Tensor, teacher_weights: Sequence[float] | None) -> Tensor:
    count = len(teacher_logits)
    if teacher_weights is None:
        teacher_weights = [1.0] * count
    if len(teacher_weights) != count:
        raise ValueError(f'teacher_weights={list(teacher_weights)} should be {count} numbers, one for each '
                         'teacher')
    dtype = torch.float64 if teacher_logits.dtype == torch.float64 else torch.float32
    total = math.fsum(teacher_weights)
    return torch.tensor([weight / total for weight in teacher_weights], dtype=dtype,
                        device=teacher_logits.device)
