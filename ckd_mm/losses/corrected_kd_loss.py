"""Distillation from teachers that are wrong: what is kept of their target where the label contradicts it."""

from torch import Tensor

from ..compat import full_precision
from ..registry import MODELS
from ..validate import WEIGHT, check_number
from .cohort_kd_loss import CohortKDLoss, cohort_kd_loss
from .decoupled_kd_loss import decoupled, require_labels
from .divergence import kl_divergence
from .soft_target import SoftTarget, soft_target, student_log_probabilities

LEFT_OUT = -1e9  # as a logarithm; if all classes are, both sides are uniform and equal


def swapped(target: SoftTarget, labels: Tensor) -> SoftTarget:
    """The target with the probabilities of its likeliest class and of the label exchanged: nothing changes
    where it is right. ("Preparing Lessons", arXiv 1911.07471, Sec. 3, as in Swapped Logit Distillation, arXiv
    2504.20108.)"""
    own, (most, likeliest) = labels[:, None], target.log_p.max(dim=1, keepdim=True)
    log_p = target.log_p.scatter(1, likeliest, target.log_p.gather(1, own)).scatter(1, own, most)
    return target._replace(log_p=log_p)


def refined_kd_loss(student_logits: Tensor, teacher_logits: Tensor | SoftTarget, labels: Tensor, tau: float,
                    confidence_weight: float = 1.0, correlation_weight: float = 4.0) -> Tensor:
    r"""Refined logit distillation (RLD; ICCV 2025, arXiv 2408.07703), without its cross-entropy.

    With p and q the softened probabilities of teacher and student, t the label, :math:`p_{max}` the largest
    of p, and :math:`\hat p, \hat q` both restricted to the classes with :math:`p_i < p_t` and renormalised:

    .. math:: \tau^2 \big( \alpha \, KL((p_{max}, 1 - p_{max}) \| (q_t, 1 - q_t))
              + \beta \, KL(\hat p \| \hat q) \big)

    The student learns how sure the teacher is, of the label instead of the teacher's class, and only the
    order of those classes that the teacher ranks below the label. Of M teachers p is the mean.

    Args:
        student_logits: (N, C), C at least 2.
        teacher_logits: (M, N, C), (N, C) of one teacher, or their soft target by the same ``tau``.
        labels: (N,), classes.
        confidence_weight: alpha.
        correlation_weight: beta.

    Returns:
        Mean over the batch in nats, a scalar, float32 (or float64 if the logits are).

    Raises:
        ValueError: logits or labels that do not fit each other.
    """
    target = soft_target(teacher_logits, tau)
    require_labels(labels, student_logits)
    with full_precision(student_logits.device.type):
        log_p, log_q = target.log_p, student_log_probabilities(student_logits, target, tau)
        confidence = kl_divergence(decoupled(log_p, log_p.argmax(dim=1))[0], decoupled(log_q, labels)[0])
        above = log_p >= log_p.gather(1, labels[:, None])
        below = [log.masked_fill(above, LEFT_OUT).log_softmax(dim=1) for log in (log_p, log_q)]
        correlation = kl_divergence(*below)
        return (confidence_weight * confidence + correlation_weight * correlation).mean() * tau**2


@MODELS.register_module()
class SwappedKDLoss(CohortKDLoss):
    """:class:`CohortKDLoss` of the :func:`swapped` target, in float32 even under autocast.

    Args: see :class:`CohortKDLoss`. Of M teachers it is their mean that is swapped.
    """

    needs_labels = True

    def forward(self, student_logits: Tensor, teacher_logits: Tensor | SoftTarget, labels: Tensor) -> Tensor:
        require_labels(labels, student_logits)
        target = teacher_logits if isinstance(teacher_logits, SoftTarget) else self.target(teacher_logits)
        return self.loss_weight * cohort_kd_loss(student_logits, swapped(target, labels),
                                                 **self.target_settings)


@MODELS.register_module()
class RefinedKDLoss(CohortKDLoss):
    """:func:`refined_kd_loss` with its settings, in float32 even under autocast.

    Args:
        confidence_weight: how sure the teacher is, the paper's alpha.
        correlation_weight: of the classes ranked below the label, the paper's beta.
        loss_weight: factor of the loss, at least 0.

    Raises:
        ConfigError: naming the setting.
    """

    needs_labels = True

    def __init__(self, tau: float = 4.0, confidence_weight: float = 1.0, correlation_weight: float = 4.0,
                 loss_weight: float = 1.0) -> None:
        super().__init__(tau, loss_weight=loss_weight)
        self.confidence_weight = check_number('confidence_weight', confidence_weight, **WEIGHT)
        self.correlation_weight = check_number('correlation_weight', correlation_weight, **WEIGHT)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor | SoftTarget, labels: Tensor) -> Tensor:
        return self.loss_weight * refined_kd_loss(student_logits, teacher_logits, labels, self.tau,
                                                  self.confidence_weight, self.correlation_weight)
