"""How well a student mimics its teachers (ESKD, Sec. 5.2)."""

import torch.nn.functional as F
from torch import Tensor

from ..models.losses.soft_target import ensemble_prediction, soft_target

__all__ = ['ensemble_prediction', 'kd_loss_by_image', 'soft_targets']


def soft_targets(teacher_logits: Tensor, tau: float) -> Tensor:
    """log of the mean of M teachers' softened probabilities, (N, C), from logits (M, N, C); of one teacher log_softmax(logits / tau)."""
    return soft_target(teacher_logits.float(), tau).log_p


def kd_loss_by_image(student_logits: Tensor, targets: Tensor, tau: float, loss: str = 'kl') -> Tensor:
    r"""The distillation loss of each image, (N,), with p the softened target and q = softmax(student / tau):

    - ``kl``: :math:`\tau^2 \sum_k p_k \log(p_k / q_k)`;
    - ``cross_entropy``: :math:`-\tau^2 \sum_k p_k \log q_k`, as ESKD prints it in Sec. 3; the entropy of p times tau squared more.

    Args:
        student_logits: (N, C), up to a constant of each image: log-probabilities will do.
        targets: (N, C), see :func:`soft_targets`.
        loss: 'kl' or 'cross_entropy'.
    """
    log_q = F.log_softmax(student_logits.float() / tau, dim=1)
    compared = targets - log_q if loss == 'kl' else -log_q
    return tau**2 * (targets.exp() * compared).sum(dim=1)
