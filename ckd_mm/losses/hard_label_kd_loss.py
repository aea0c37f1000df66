"""Distillation of the class that the teachers predict, as if it were the label."""

import torch.nn.functional as F
from torch import Tensor

from ..compat import full_precision
from ..registry import MODELS
from ..validate import check_number
from .cohort_kd_loss import CohortKDLoss
from .soft_target import SoftTarget, soft_target, student_log_probabilities


def hard_label_kd_loss(student_logits: Tensor, teacher_logits: Tensor | SoftTarget,
                       label_smoothing: float = 0.0) -> Tensor:
    r"""Hard-label distillation (DeiT; ICML 2021, arXiv 2012.12877), the second term of Eq. 3 there: the
    cross-entropy of the student with the class :math:`y_t = argmax_c Z_t(c)` of its teachers, of several that
    of the mean of their probabilities. The paper weighs both terms alike, ``ce_weight=kd_weight=0.5``.

    Args:
        student_logits: (N, C).
        teacher_logits: (M, N, C), (N, C) of one teacher, or their soft target at temperature 1.
        label_smoothing: share of the target that is spread evenly over all classes; 0.1 in the paper, below
            Eq. 3.

    Returns:
        Mean over the batch in nats, a scalar, float32 (or float64 if the logits are).

    Raises:
        ValueError: logits that do not fit each other.
    """
    target = soft_target(teacher_logits, 1.0)
    with full_precision(student_logits.device.type):
        log_q = student_log_probabilities(student_logits, target, 1.0)
        return F.cross_entropy(log_q, target.log_p.argmax(dim=1), label_smoothing=label_smoothing)


@MODELS.register_module()
class HardLabelKDLoss(CohortKDLoss):
    """:func:`hard_label_kd_loss` with its settings, in float32 even under autocast.

    Args:
        label_smoothing: 0 to 1.
        loss_weight: factor of the loss, at least 0.

    Raises:
        ConfigError: naming the setting.
    """

    def __init__(self, label_smoothing: float = 0.0, loss_weight: float = 1.0) -> None:
        super().__init__(1.0, loss_weight=loss_weight)
        self.label_smoothing = check_number('label_smoothing', label_smoothing, at_least=0, at_most=1)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor | SoftTarget) -> Tensor:
        return self.loss_weight * hard_label_kd_loss(student_logits, teacher_logits, self.label_smoothing)
