"""Distillation of logits from M teachers."""

import math
from numbers import Real
from typing import Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...compat import full_precision
from ...errors import ConfigError
from ...registry import MODELS

AGGREGATIONS = ('prob', 'logit', 'loss')
SMALLEST_DEVIATION = 1e-6  # of logits that are standardised: below it they are constant but for rounding


def cohort_kd_loss(student_logits: Tensor, teacher_logits: Tensor, tau: float, aggregation: str = 'prob',
                   teacher_weights: Optional[Sequence[float]] = None, standardize: bool = False) -> Tensor:
    r"""How far a student's softened prediction is from those of M teachers, in nats, times tau squared.

    With P_m = softmax(teacher_m / tau), q = softmax(student / tau) and w_m the weights, which sum to one:

    - ``prob``: :math:`\tau^2 KL(\sum_m w_m P_m \| q)`, Eq. 2 of CheckpointKD;
    - ``loss``: :math:`\tau^2 \sum_m w_m KL(P_m \| q)`, Eq. 4 and 5 of DIH;
    - ``logit``: :math:`\tau^2 KL(softmax(\sum_m w_m teacher_m / \tau) \| q)`, what the CheckpointKD authors' code does.

    Cross-entropy is linear in its target, so ``loss`` is ``prob`` plus the spread of the teachers around their mean (a
    Jensen-Shannon divergence), which is constant for the student: both give it the same gradient. With one teacher all
    three are the classical distillation loss of Hinton et al. (arXiv 1503.02531), bit for bit.

    Args:
        student_logits: (N, C).
        teacher_logits: (M, N, C); (N, C) is taken as one teacher.
        tau: temperature, above 0.
        teacher_weights: M numbers, scaled here to sum to one; default: equal.
        standardize: first bring the logits of the student and of each teacher to mean 0 and standard deviation 1, see
            :func:`standardized`.

    Returns:
        Mean over the batch, float32 (or float64 if the logits are), a scalar.

    Raises:
        ValueError: logits that do not fit each other, another number of weights than teachers, or an unknown aggregation.
    """
    if aggregation not in AGGREGATIONS:
        raise ConfigError(f'aggregation={aggregation!r} should be one of {AGGREGATIONS}')
    if teacher_logits.dim() == 2:
        teacher_logits = teacher_logits[None]
    if teacher_logits.dim() != 3 or teacher_logits.shape[1:] != student_logits.shape:
        raise ValueError(f'teacher logits {tuple(teacher_logits.shape)} should be (M, N, C) with the (N, C) of the student, '
                         f'{tuple(student_logits.shape)}: do teacher and student have the same classes?')
    weights = _weights(teacher_logits, teacher_weights)
    with full_precision(student_logits.device.type):
        student_logits, teacher_logits = _at_least_float(student_logits), _at_least_float(teacher_logits)
        if standardize:
            student_logits, teacher_logits = standardized(student_logits), standardized(teacher_logits)
        log_q = F.log_softmax(student_logits / tau, dim=1)
        scaled = teacher_logits / tau
        if aggregation == 'logit':
            scaled = torch.einsum('m,mnc->nc', weights, scaled)[None] if len(scaled) > 1 else scaled
            weights = weights.new_ones(1)
        log_p = F.log_softmax(scaled, dim=2)
        # the log of the mean probability; of one teacher it is log_p itself
        log_mean = torch.logsumexp(log_p + weights.log()[:, None, None], dim=0)
        loss = F.kl_div(log_q, log_mean, reduction='batchmean', log_target=True)
        if aggregation == 'loss' and len(scaled) > 1:
            spread = torch.einsum('m,mnc,mnc->', weights, log_p.exp(), log_p - log_mean)
            loss = loss + spread / len(student_logits)
        return loss * tau**2


def standardized(logits: Tensor) -> Tensor:
    r"""Z-scores of each image's logits, :math:`(z - mean(z)) / std(z)` over the C classes: the student learns how the teacher
    ranks and spaces the classes, not how large its logits are.

    "Logit Standardization in Knowledge Distillation" (Sun et al., CVPR 2024, arXiv 2403.01427), Algorithm 1, which divides by
    the standard deviation of the C values themselves. The authors' code takes that of a sample (C - 1), which makes its
    temperature sqrt(C / (C - 1)) times ours.

    Args:
        logits: (..., C), float32 or float64. Constant ones become 0, with finite gradients.
    """
    centred = logits - logits.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return centred / variance.clamp_min(SMALLEST_DEVIATION**2).sqrt()


def _weights(teacher_logits: Tensor, teacher_weights: Optional[Sequence[float]]) -> Tensor:
    count = len(teacher_logits)
    if teacher_weights is None:
        teacher_weights = [1.0] * count
    if len(teacher_weights) != count:
        raise ValueError(f'teacher_weights={list(teacher_weights)} should be {count} numbers, one for each teacher')
    dtype = torch.float64 if teacher_logits.dtype == torch.float64 else torch.float32
    total = math.fsum(teacher_weights)
    return torch.tensor([weight / total for weight in teacher_weights], dtype=dtype, device=teacher_logits.device)


def _at_least_float(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


@MODELS.register_module()
class CohortKDLoss(nn.Module):
    """:func:`cohort_kd_loss` with its settings. Always computed in float32, whatever autocast says.

    Usable in mmrazor's ``ConfigurableDistiller`` too; map ``student_logits`` and ``teacher_logits``.

    Args:
        tau: temperature, above 0.
        aggregation: 'prob', 'logit' or 'loss'.
        loss_weight: factor of the loss, at least 0.
        teacher_weights: one number for each teacher, at least 0; only their proportions matter.
        standardize: bring logits to mean 0 and standard deviation 1 first, see :func:`standardized`.

    Raises:
        ConfigError: naming the setting.
    """

    def __init__(self, tau: float = 4.0, aggregation: str = 'prob', loss_weight: float = 1.0,
                 teacher_weights: Optional[Sequence[float]] = None, standardize: bool = False) -> None:
        super().__init__()
        check_temperature(tau)
        if aggregation not in AGGREGATIONS:
            raise ConfigError(f'aggregation={aggregation!r} should be one of {AGGREGATIONS}')
        check_weight('loss_weight', loss_weight)
        if teacher_weights is not None:
            if not isinstance(teacher_weights, (list, tuple)) or not teacher_weights:
                raise ConfigError(f'teacher_weights={teacher_weights!r} should be a list of numbers, one for each teacher')
            for weight in teacher_weights:
                check_weight('teacher_weights', weight)
            if not sum(teacher_weights) > 0:
                raise ConfigError(f'teacher_weights={list(teacher_weights)} should not all be 0')
        if not isinstance(standardize, bool):
            raise ConfigError(f'standardize={standardize!r} should be True or False')
        self.tau = tau
        self.aggregation = aggregation
        self.loss_weight = loss_weight
        self.teacher_weights = teacher_weights
        self.standardize = standardize

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Args as in :func:`cohort_kd_loss`; a scalar."""
        loss = cohort_kd_loss(student_logits, teacher_logits, self.tau, self.aggregation, self.teacher_weights, self.standardize)
        return loss if self.loss_weight == 1 else loss * self.loss_weight

    def extra_repr(self) -> str:
        return f'tau={self.tau}, aggregation={self.aggregation}, loss_weight={self.loss_weight}' + \
            (', standardize=True' if self.standardize else '')


def check_temperature(tau) -> None:
    """
    Raises:
        ConfigError: ``tau`` is no finite number above 0.
    """
    if not _is_number(tau) or tau <= 0:
        raise ConfigError(f'tau={tau!r}: the temperature should be a number above 0')


def check_weight(name: str, value) -> None:
    """
    Raises:
        ConfigError: ``value`` is no finite number of at least 0.
    """
    if not _is_number(value) or value < 0:
        raise ConfigError(f'{name}={value!r} should be a finite number, at least 0')


def _is_number(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
