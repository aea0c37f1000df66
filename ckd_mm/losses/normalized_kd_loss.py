"""Distillation of the label's probability, and of the other classes after both are normalised alike."""

from torch import Tensor

from ..compat import full_precision
from ..registry import MODELS
from ..validate import TEMPERATURE, WEIGHT, check_number
from .cohort_kd_loss import CohortKDLoss
from .decoupled_kd_loss import all_but, require_labels
from .soft_target import SoftTarget, soft_target, student_log_probabilities


def normalized_kd_loss(student_logits: Tensor, teacher_logits: Tensor | SoftTarget, labels: Tensor,
                       tau: float = 1.0, non_target_weight: float = 1.5) -> Tensor:
    r"""Normalized KD (NKD; ICCV 2023, arXiv 2303.13005), as in the authors' code.

    With T and S the probabilities of teacher and student at temperature 1, t the label, and :math:`N(p)_i =
    p_i^{1/\tau} / \sum_{j \ne t} p_j^{1/\tau}` for :math:`i \ne t`:

    .. math:: - T_t \log S_t - \gamma \tau^2 \sum_{i \ne t} N(T)_i \log N(S)_i

    It is a cross-entropy: at S = T it is not 0. Of M teachers T is the mean of their probabilities.

    Args:
        student_logits: (N, C), C at least 2.
        teacher_logits: (M, N, C), (N, C) of one teacher, or their soft target at temperature 1.
        labels: (N,), classes.
        tau: temperature of the other classes.
        non_target_weight: gamma; the paper has 1.5.

    Returns:
        Mean over the batch in nats, a scalar, float32 (or float64 if the logits are).

    Raises:
        ValueError: logits or labels that do not fit each other.
    """
    target = soft_target(teacher_logits, 1.0)
    require_labels(labels, student_logits)
    with full_precision(student_logits.device.type):
        log_s, log_t = student_log_probabilities(student_logits, target, 1.0), target.log_p
        own = labels[:, None]
        target_term = log_t.gather(1, own).exp() * log_s.gather(1, own)
        others_s, others_t = ((all_but(labels, log_p) / tau).log_softmax(dim=1) for log_p in (log_s, log_t))
        non_target_term = (others_t.exp() * others_s).sum(dim=1)
        return -(target_term.mean() + non_target_weight * tau**2 * non_target_term.mean())


@MODELS.register_module()
class NormalizedKDLoss(CohortKDLoss):
    """:func:`normalized_kd_loss` with its settings, in float32 even under autocast.

    Args:
        tau: temperature of the other classes.
        non_target_weight: of the other classes' term, the paper's gamma.
        loss_weight: factor of the loss, at least 0.

    Raises:
        ConfigError: naming the setting.
    """

    needs_labels = True

    def __init__(self, tau: float = 1.0, non_target_weight: float = 1.5, loss_weight: float = 1.0) -> None:
        super().__init__(1.0, loss_weight=loss_weight)  # the temperature of the targets
        self.others_tau = check_number('tau', tau, **TEMPERATURE)
        self.non_target_weight = check_number('non_target_weight', non_target_weight, **WEIGHT)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor | SoftTarget, labels: Tensor) -> Tensor:
        return self.loss_weight * normalized_kd_loss(student_logits, teacher_logits, labels, self.others_tau,
                                                     self.non_target_weight)
