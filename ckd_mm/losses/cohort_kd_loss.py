"""Distillation of logits from M teachers."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..compat import full_precision
from ..errors import ConfigError
from ..registry import MODELS
from ..validate import check_bool, check_choice, check_number
from .soft_target import (
    AGGREGATIONS,
    SoftTarget,
    at_least_float,
    require_same_shape,
    soft_target,
    standardized,
)


def cohort_kd_loss(student_logits: Tensor, teacher_logits: Tensor, tau: float, aggregation: str = 'prob',
                   teacher_weights: Sequence[float] | None = None, standardize: bool = False) -> Tensor:
    r"""How far a student's softened prediction is from those of M teachers, in nats, times tau squared.

    With P_m = softmax(teacher_m / tau), q = softmax(student / tau) and w_m the weights, which sum to one:

    - ``prob``: :math:`\tau^2 KL(\sum_m w_m P_m \| q)`, Eq. 2 of CheckpointKD;
    - ``loss``: :math:`\tau^2 \sum_m w_m KL(P_m \| q)`, Eq. 4 and 5 of DIH;
    - ``logit``: :math:`\tau^2 KL(softmax(\sum_m w_m teacher_m / \tau) \| q)`, the CheckpointKD authors' code.

    Cross-entropy is linear in its target, so ``loss`` is ``prob`` plus the spread of the teachers around
    their mean (a Jensen-Shannon divergence): the student gets the same gradient from both. With one teacher
    all three are the distillation loss of Hinton et al. (arXiv 1503.02531), bit for bit.

    Args:
        student_logits: (N, C).
        teacher_logits: (M, N, C); (N, C) is taken as one teacher.
        tau: temperature, above 0.
        teacher_weights: M numbers, scaled here to sum to one; default: equal.
        standardize: the logits of all, see :func:`ckd_mm.losses.soft_target.standardized`.

    Returns:
        Mean over the batch, float32 (or float64 if the logits are), a scalar.

    Raises:
        ValueError: logits that do not fit each other, another number of weights than teachers, or an unknown
            aggregation.
    """
    require_same_shape(student_logits, teacher_logits)
    target = soft_target(teacher_logits, tau, aggregation, teacher_weights, standardize)
    return kd_to_target(student_logits, target, tau, standardize)


def kd_to_target(student_logits: Tensor, target: SoftTarget, tau: float, standardize: bool = False) -> Tensor:
    r""":math:`\tau^2 (KL(P \| q) + spread)`, mean over the batch, with P and spread of the target and q =
    softmax(student / tau), for student logits (N, C).

    Raises:
        ValueError: the target is of other images or classes.
    """
    if target.log_p.shape != student_logits.shape:
        raise ValueError(f'target {tuple(target.log_p.shape)} should be (N, C) as the logits of the student, '
                         f'{tuple(student_logits.shape)}: do teacher and student have the same classes?')
    with full_precision(student_logits.device.type):
        student_logits = at_least_float(student_logits)
        if standardize:
            student_logits = standardized(student_logits)
        log_q = F.log_softmax(student_logits / tau, dim=1)
        loss = F.kl_div(log_q, target.log_p, reduction='batchmean', log_target=True)
        if target.spread is not None:
            loss = loss + target.spread.mean()
        return loss * tau**2


@MODELS.register_module()
class CohortKDLoss(nn.Module):
    """:func:`cohort_kd_loss` with its settings. Always computed in float32, whatever autocast says.

    Usable in mmrazor's ``ConfigurableDistiller`` too; map ``student_logits`` and ``teacher_logits``.

    Args:
        tau, aggregation, standardize: see :func:`cohort_kd_loss`.
        loss_weight: factor of the loss, at least 0.
        teacher_weights: one number for each teacher, at least 0; only their proportions matter.

    Raises:
        ConfigError: naming the setting.
    """

    def __init__(self, tau: float = 4.0, aggregation: str = 'prob', loss_weight: float = 1.0,
                 teacher_weights: Sequence[float] | None = None, standardize: bool = False) -> None:
        super().__init__()
        self.tau = check_temperature(tau)
        self.aggregation = check_choice('aggregation', aggregation, AGGREGATIONS)
        self.loss_weight = check_number('loss_weight', loss_weight, at_least=0)
        if teacher_weights is not None:
            if not isinstance(teacher_weights, (list, tuple)) or not teacher_weights:
                raise ConfigError(f'teacher_weights={teacher_weights!r} should be a list of numbers, one for '
                                  'each teacher')
            if not sum(check_number('teacher_weights', weight, at_least=0) for weight in teacher_weights) > 0:
                raise ConfigError(f'teacher_weights={list(teacher_weights)} should not all be 0')
        self.teacher_weights = teacher_weights
        self.standardize = check_bool('standardize', standardize)

    @property
    def target_settings(self) -> dict[str, Any]:
        """What the teachers' target depends on besides their logits."""
        weights = None if self.teacher_weights is None else list(self.teacher_weights)
        return dict(tau=self.tau, aggregation=self.aggregation, teacher_weights=weights,
                    standardize=self.standardize)

    def target(self, teacher_logits: Tensor) -> SoftTarget:
        """All that the loss needs of teacher logits (M, N, C)."""
        return soft_target(teacher_logits, self.tau, self.aggregation, self.teacher_weights, self.standardize)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor | SoftTarget) -> Tensor:
        """Args as in :func:`cohort_kd_loss`, or instead of teacher logits their :meth:`target`: the same
        loss, bit for bit. A scalar."""
        target = teacher_logits
        if not isinstance(target, SoftTarget):
            require_same_shape(student_logits, teacher_logits)
            target = self.target(teacher_logits)
        loss = kd_to_target(student_logits, target, self.tau, self.standardize)
        return loss if self.loss_weight == 1 else loss * self.loss_weight

    def extra_repr(self) -> str:
        return f'tau={self.tau}, aggregation={self.aggregation}, loss_weight={self.loss_weight}' + \
            (', standardize=True' if self.standardize else '')


def check_temperature(tau: Any) -> float:
    """
    Raises:
        ConfigError: ``tau`` is no finite number above 0.
    """
    try:
        return check_number('tau', tau, above=0)
    except ConfigError:
        raise ConfigError(f'tau={tau!r}: the temperature should be a number above 0') from None
