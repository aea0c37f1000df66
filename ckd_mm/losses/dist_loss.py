"""Distillation of relations: how images and classes rank, not the probabilities themselves."""

from torch import Tensor

from ..compat import full_precision
from ..registry import MODELS
from ..validate import WEIGHT, check_number
from .cohort_kd_loss import CohortKDLoss
from .soft_target import SoftTarget, soft_target, student_log_probabilities

SMALLEST_NORM = 1e-8  # added to the product of two norms, as in the authors' code


def dist_loss(student_logits: Tensor, teacher_logits: Tensor | SoftTarget, tau: float = 1.0,
              inter_weight: float = 2.0, intra_weight: float = 2.0) -> Tensor:
    r"""DIST ("Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, arXiv 2205.10536).

    With Y the softened probabilities (N, C) of student and teacher, and r Pearson's correlation of two
    vectors:

    .. math:: \tau^2 \big( w_{inter} \, mean_i (1 - r(Y^s_{i:}, Y^t_{i:}))
              + w_{intra} \, mean_j (1 - r(Y^s_{:j}, Y^t_{:j})) \big)

    The first compares the classes of each image, the second the images of the batch for each class. Of M
    teachers Y is the mean of their probabilities.

    Args:
        student_logits: (N, C).
        teacher_logits: (M, N, C), (N, C) of one teacher, or their soft target by the same ``tau``.
        tau: temperature; 4 is usual on CIFAR-100, 1 on ImageNet.
        inter_weight, intra_weight: the paper's beta and gamma.

    Returns:
        A scalar, float32 (or float64 if the logits are).

    Raises:
        ValueError: logits that do not fit each other.
    """
    target = soft_target(teacher_logits, tau)
    with full_precision(student_logits.device.type):
        student = student_log_probabilities(student_logits, target, tau).exp()
        teacher = target.log_p.exp()
        inter = 1 - correlation(student, teacher).mean()
        intra = 1 - correlation(student.T, teacher.T).mean()
        return (inter_weight * inter + intra_weight * intra) * tau**2


def correlation(left: Tensor, right: Tensor) -> Tensor:
    """Pearson's, of each row of two matrices (A, B): (A,). It is 0 where a row is constant."""
    left, right = (each - each.mean(dim=1, keepdim=True) for each in (left, right))
    return (left * right).sum(dim=1) / (left.norm(dim=1) * right.norm(dim=1) + SMALLEST_NORM)


@MODELS.register_module()
class DISTLoss(CohortKDLoss):
    """:func:`dist_loss` with its settings, in float32 even under autocast.

    Args:
        tau: temperature.
        inter_weight: of the relation of classes, the paper's beta.
        intra_weight: of the relation of images, the paper's gamma.
        loss_weight: factor of the loss, at least 0.

    Raises:
        ConfigError: naming the setting.
    """

    def __init__(self, tau: float = 1.0, inter_weight: float = 2.0, intra_weight: float = 2.0,
                 loss_weight: float = 1.0) -> None:
        super().__init__(tau, loss_weight=loss_weight)
        self.inter_weight = check_number('inter_weight', inter_weight, **WEIGHT)
        self.intra_weight = check_number('intra_weight', intra_weight, **WEIGHT)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor | SoftTarget) -> Tensor:
        return self.loss_weight * dist_loss(student_logits, teacher_logits, self.tau, self.inter_weight,
                                            self.intra_weight)
