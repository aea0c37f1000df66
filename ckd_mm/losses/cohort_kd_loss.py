"""Distillation of logits from M teachers."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..compat import full_precision
from ..errors import ConfigError
from ..registry import MODELS
from ..validate import TEMPERATURE, WEIGHT, check_bool, check_choice, check_number
from .divergence import kl_divergence
from .soft_target import AGGREGATIONS, SoftTarget, soft_target, student_log_probabilities


def cohort_kd_loss(student_logits: Tensor, teacher_logits: Tensor | SoftTarget, tau: float,
                   aggregation: str = 'prob', teacher_weights: Sequence[float] | None = None,
                   standardize: bool = False) -> Tensor:
    r""":math:`\tau^2 (KL(P \| q) + spread)`, mean over the batch, in nats.

    P and spread are the teachers' :func:`soft_target`, q = softmax(student / tau). ``prob`` and ``loss`` give
    the student the same gradient. With one teacher all aggregations are the distillation loss of Hinton et
    al. (arXiv 1503.02531): gradients are those of ``F.kl_div``, bit for bit, and the value, which is only
    logged, is more exact than that (:func:`ckd_mm.losses.divergence.kl_divergence`).

    Args:
        student_logits: (N, C).
        teacher_logits: (M, N, C), (N, C) of one teacher, or their soft target by the same settings.
        standardize: the logits of all.

    Returns:
        A scalar, float32 (or float64 if the logits are).

    Raises:
        ValueError: logits that do not fit each other, or what :func:`soft_target` raises.
    """
    target = soft_target(teacher_logits, tau, aggregation, teacher_weights, standardize)
    with full_precision(student_logits.device.type):
        log_q = student_log_probabilities(student_logits, target, tau, standardize)
        loss = kl_divergence(target.log_p, log_q).mean()
        return (loss if target.spread is None else loss + target.spread.mean()) * tau**2


@MODELS.register_module()
class CohortKDLoss(nn.Module):
    """:func:`cohort_kd_loss` with its settings, in float32 even under autocast.

    In mmrazor's ``ConfigurableDistiller`` map ``student_logits`` and ``teacher_logits``.

    Args:
        aggregation: 'prob', 'loss' or 'logit'.
        loss_weight: factor of the loss, at least 0.
        teacher_weights: one number for each teacher, at least 0; only their proportions matter.
        standardize: compare z-scores of the logits.

    Raises:
        ConfigError: naming the setting.
    """

    def __init__(self, tau: float = 4.0, aggregation: str = 'prob', loss_weight: float = 1.0,
                 teacher_weights: Sequence[float] | None = None, standardize: bool = False) -> None:
        super().__init__()
        self.tau = check_number('tau', tau, **TEMPERATURE)
        self.aggregation = check_choice('aggregation', aggregation, AGGREGATIONS)
        self.loss_weight = check_number('loss_weight', loss_weight, **WEIGHT)
        if teacher_weights is not None:
            if not isinstance(teacher_weights, (list, tuple)) or not teacher_weights:
                raise ConfigError(f'teacher_weights={teacher_weights!r} should be a list of numbers, one for '
                                  'each teacher')
            if not sum(check_number('teacher_weights', weight, at_least=0) for weight in teacher_weights) > 0:
                raise ConfigError(f'teacher_weights={list(teacher_weights)} should not all be 0')
        self.teacher_weights = None if teacher_weights is None else list(teacher_weights)
        self.standardize = check_bool('standardize', standardize)

    @property
    def target_settings(self) -> dict[str, Any]:
        """What the teachers' target depends on besides their logits."""
        return dict(tau=self.tau, aggregation=self.aggregation, teacher_weights=self.teacher_weights,
                    standardize=self.standardize)

    def target(self, teacher_logits: Tensor) -> SoftTarget:
        """What the loss needs of teacher logits (M, N, C), and takes instead of them with the same result."""
        return soft_target(teacher_logits, **self.target_settings)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor | SoftTarget) -> Tensor:
        return cohort_kd_loss(student_logits, teacher_logits, **self.target_settings) * self.loss_weight
