"""Distillation in two terms: how sure the teacher is, and how it orders the other classes."""

import torch
from torch import Tensor

from ..compat import full_precision
from ..registry import MODELS
from ..validate import WEIGHT, check_number
from .cohort_kd_loss import CohortKDLoss
from .divergence import kl_divergence
from .soft_target import SoftTarget, soft_target, student_log_probabilities


def decoupled_kd_loss(student_logits: Tensor, teacher_logits: Tensor | SoftTarget, labels: Tensor, tau: float,
                      target_weight: float | Tensor = 1.0, non_target_weight: float | Tensor = 8.0) -> Tensor:
    r"""Decoupled knowledge distillation (DKD; CVPR 2022, arXiv 2203.08679), Eq. 7 with weights of its own.

    With p and q the softened probabilities of teacher and student, t the label and :math:`\hat p_i = p_i / (1
    - p_t)`, :math:`i \ne t`:

    .. math:: \tau^2 \big( w_t \, KL((p_t, 1 - p_t) \| (q_t, 1 - q_t)) + w_n \, KL(\hat p \| \hat q) \big)

    The classical loss has :math:`w_t = 1` and :math:`w_n = 1 - p_t`, so little is left of the other classes
    where the teacher is sure. DKD takes constants, the paper's alpha and beta. Of M teachers p is the mean.

    Args:
        student_logits: (N, C), C at least 2.
        teacher_logits: (M, N, C), (N, C) of one teacher, or their soft target by the same ``tau``.
        labels: (N,), classes.
        target_weight: w_t, a number or one for each image (N,).
        non_target_weight: w_n, likewise.

    Returns:
        Mean over the batch in nats, a scalar, float32 (or float64 if the logits are).

    Raises:
        ValueError: logits or labels that do not fit each other.
    """
    target = soft_target(teacher_logits, tau)
    require_labels(labels, student_logits)
    with full_precision(student_logits.device.type):
        binary_q, others_q = decoupled(student_log_probabilities(student_logits, target, tau), labels)
        binary_p, others_p = decoupled(target.log_p, labels)
        target_term, non_target_term = kl_divergence(binary_p, binary_q), kl_divergence(others_p, others_q)
        return (target_weight * target_term + non_target_weight * non_target_term).mean() * tau**2


def require_labels(labels: Tensor, logits: Tensor) -> None:
    """Raises ValueError unless there is a label for each row of logits (N, C), of at least 2 classes."""
    if labels.shape != logits.shape[:1] or logits.shape[1] < 2:
        raise ValueError(f'labels {tuple(labels.shape)} should be one class of at least 2 for each of the '
                         f'student logits {tuple(logits.shape)}')


def all_but(labels: Tensor, values: Tensor) -> Tensor:
    """Values (N, C) of all classes but the labels (N,), in their order: (N, C - 1)."""
    others = torch.arange(values.shape[1] - 1, device=values.device).expand(len(values), -1)
    return values.gather(1, others + (others >= labels[:, None]))


def decoupled(log_p: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of (p_t, 1 - p_t), (N, 2), and of the other classes' share of 1 - p_t, (N, C - 1), for one
    class t of each row."""
    target, others = log_p.gather(1, labels[:, None])[:, 0], all_but(labels, log_p)
    rest = others.logsumexp(dim=1)  # not log(1 - p_t), of which nothing is left where the teacher is sure
    return torch.stack([target, rest], dim=1), others - rest[:, None]


@MODELS.register_module()
class DecoupledKDLoss(CohortKDLoss):
    """:func:`decoupled_kd_loss` with its settings, in float32 even under autocast.

    mmrazor's ``DKDLoss`` is not used: with ``reduction='mean'`` it returns the sum over the batch.

    Args:
        target_weight: of the label's term, the paper's alpha.
        non_target_weight: of the other classes' term, the paper's beta; 1 to 8 there, by network pair.
        loss_weight: factor of the loss, at least 0.

    Raises:
        ConfigError: naming the setting.
    """

    needs_labels = True

    def __init__(self, tau: float = 4.0, target_weight: float = 1.0, non_target_weight: float = 8.0,
                 loss_weight: float = 1.0) -> None:
        super().__init__(tau, loss_weight=loss_weight)
        self.target_weight = check_number('target_weight', target_weight, **WEIGHT)
        self.non_target_weight = check_number('non_target_weight', non_target_weight, **WEIGHT)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor | SoftTarget, labels: Tensor) -> Tensor:
        return self.loss_weight * decoupled_kd_loss(student_logits, teacher_logits, labels, self.tau,
                                                    self.target_weight, self.non_target_weight)
