"""KD error and KD loss of any evaluation (ESKD, Tables 2 and 3)."""

import hashlib
import math
from collections.abc import Hashable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.device import get_device
from mmengine.evaluator import BaseMetric
from torch import Tensor, nn

from ..data.labels import require_same_classes
from ..errors import ConfigError
from ..losses import kl_divergence, soft_target
from ..losses.soft_target import ensemble_prediction
from ..registry import METRICS
from ..teachers import build_cohort
from ..validate import ONE_LABEL, TEMPERATURE, check_choice, check_number

NAMES = dict(kl='divergence', cross_entropy='cross_entropy')  # of the loss in the log


@METRICS.register_module()
class KDMetric(BaseMetric):
    r"""``kd/error``: the share of images, in percent, of which student and teachers predict different classes
    (ESKD, Table 2). ``kd/divergence`` (or ``kd/cross_entropy``): the KD loss, mean over the images (ESKD,
    Table 3). No name has "loss" in it: mmengine would log the mean over the last ten validations.

    Sec. 3 of ESKD prints the KD loss as a cross-entropy, :math:`-\tau^2 \sum p \log q`, which cannot be what
    Table 3 lists (1.4 to 3.4, tau = 4, 1,000 classes): it is never below tau squared times the entropy of p,
    which would have to be under 0.21 nats. So the default is :math:`\tau^2 KL(p \| q)`.

    Targets are cached by the content of an image (C float32 numbers each, 200 MB for ImageNet's validation
    set); teachers are built for the first validation and for images that have changed, and released
    afterwards: no checkpoint has them. Of several teachers the mean of their probabilities predicts, that of
    their softened ones is p. The student's logits are recovered from its probabilities, at least the smallest
    float of their type (1e-38; 6e-5 in half precision).

    Args:
        teacher: a cohort or its config, say ``dict(type='ckd_mm.SnapshotEnsemble',
            snapshots=['teacher.pth'])``. In the config of a distillation it is filled in.
        tau: temperature, above 0.
        loss: 'kl', logged as ``kd/divergence``, or 'cross_entropy'.

    Raises ConfigError without a teacher, for teachers of other classes and predictions without scores.
    """
    default_prefix = 'kd'

    def __init__(self, teacher: dict | nn.Module | None = None, tau: float = 4.0, loss: str = 'kl',
                 collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if not isinstance(teacher, (dict, nn.Module)):
            raise ConfigError(f'KDMetric: teacher={teacher!r} should be a cohort to compare the student '
                              "with, say dict(type='ckd_mm.SnapshotEnsemble', snapshots=['teacher.pth'])")
        check_number('KDMetric: tau', tau, **TEMPERATURE)
        check_choice('KDMetric: loss', loss, tuple(NAMES))
        self.teacher, self.tau, self.loss = teacher, tau, loss
        self._cohort: nn.Module | None = None
        self._shared: list[int] | None = None  # classes of the student, where the teachers lack some
        # by the content of an image: softened target (C,), predicted class; all, and of this evaluation
        self._known: dict[Hashable, tuple[Tensor, int]] = {}
        self._seen: dict[Hashable, tuple[Tensor, int]] = {}

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """The student's predictions of the ``inputs`` of a batch."""
        if not isinstance(data_batch, dict) or 'inputs' not in data_batch:
            raise ConfigError('KDMetric needs the images that were predicted: it works in evaluations of a '
                              'model, not of dumped results')
        if any('pred_score' not in sample for sample in data_samples):
            raise ConfigError("KDMetric needs the scores of all classes, `pred_score`, in the model's "
                              "predictions")
        scores = torch.stack([sample['pred_score'] for sample in data_samples]).cpu()
        sums = scores.float().sum(dim=1)
        if not torch.allclose(sums, torch.ones_like(sums), atol=0.05):  # half precision
            raise ConfigError(f'KDMetric: the scores of an image sum to {sums[0]:.3g}, not to 1: {ONE_LABEL}')
        targets, predicted = self._teacher_targets(data_batch['inputs'])
        scores = scores if self._shared is None else scores[:, self._shared]
        if targets.shape != scores.shape:
            raise ConfigError(f'KDMetric: the teacher has {targets.shape[1]} classes, the student '
                              f'{scores.shape[1]}; compare networks of the same classes')
        student = scores.clamp_min(torch.finfo(scores.dtype).tiny).float().log()
        losses = kd_loss_by_image(student, targets, self.tau, self.loss)
        self.results.extend(zip((scores.argmax(dim=1) != predicted).tolist(), losses.tolist()))

    def compute_metrics(self, results: list[tuple[bool, float]]) -> dict[str, float]:
        """Of each image: whether student and teachers disagree, and the loss."""
        differs, losses = zip(*results)
        return {'error': 100 * sum(differs) / len(differs), NAMES[self.loss]: math.fsum(losses) / len(losses)}

    def evaluate(self, size: int) -> dict[str, float]:
        metrics = super().evaluate(size)
        # other images are forgotten: memory would grow without end where they are augmented at random
        self._known, self._seen, self._cohort = self._seen, {}, None
        return metrics

    def _teacher_targets(self, images: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Softened targets (N, C) and predicted classes (N,), on the CPU."""
        names = [_digest(image) for image in images]
        if any(name not in self._known for name in names):
            self._teacher_forward(names, images)
        self._seen.update((name, self._known[name]) for name in names)
        targets, predicted = zip(*(self._known[name] for name in names))
        return torch.stack(targets), torch.tensor(predicted)

    @torch.no_grad()
    def _teacher_forward(self, names: list[Hashable], images: Tensor | Sequence[Tensor]) -> None:
        if self._cohort is None:
            self._cohort = self._build()
        inputs = self._cohort.data_preprocessor(dict(inputs=images), training=False)['inputs']
        logits = self._cohort(inputs).float()
        targets, predicted = soft_target(logits, self.tau).log_p.cpu(), ensemble_prediction(logits).tolist()
        self._known.update(zip(names, zip(targets, predicted)))

    def _build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):  # the training draws the same numbers as without
            cohort = build_cohort(self.teacher)
        require_same_classes('the teacher of KDMetric', getattr(cohort, 'classes', None), 'the images',
                             (self.dataset_meta or {}).get('classes'))
        self._shared = None if cohort.class_map is None else cohort.class_map.shared
        return cohort.to(get_device()).eval()


def _digest(image: Tensor) -> Hashable:
    pixels = image.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return tuple(image.shape), hashlib.blake2b(pixels, digest_size=16).digest()


def kd_loss_by_image(student_logits: Tensor, targets: Tensor, tau: float, loss: str = 'kl') -> Tensor:
    r"""The distillation loss of each image, (N,), with p the softened target and q = softmax(student / tau):

    - ``kl``: :math:`\tau^2 \sum_k p_k \log(p_k / q_k)`;
    - ``cross_entropy``: :math:`-\tau^2 \sum_k p_k \log q_k`, as ESKD prints it in Sec. 3; the entropy of p
      times tau squared more.

    Args:
        student_logits: (N, C), up to a constant of each image: log-probabilities will do.
        targets: (N, C), ``log_p`` of :func:`ckd_mm.losses.soft_target`.
    """
    log_q = F.log_softmax(student_logits.float() / tau, dim=1)
    return tau**2 * (kl_divergence(targets, log_q) if loss == 'kl' else -(targets.exp() * log_q).sum(dim=1))
