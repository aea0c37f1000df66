"""A student that learns from a cohort of teachers."""

import torch
from torch import Tensor, nn

from ..classifier_heads import logits_module
from ..errors import ConfigError
from ..losses.soft_target import SoftTarget, ensemble_prediction
from ..registry import MODELS
from ..targets.target_file import TargetFile
from ..teachers import BaseCohort
from ..teachers.class_map import ClassMap, Columns
from ..validate import WEIGHT, check_choice, check_number
from .classifier import are_labelled, hard_labels, logits_of, output_of, weighted
from .taught_student import TaughtStudent


@MODELS.register_module()
class CheckpointDistill(TaughtStudent):
    r"""loss = ``ce_weight`` * CE(student, label) + ``kd_weight`` * KD(student, cohort), Eq. 1 and 2 of
    CheckpointKD. With ``kd_weight=0`` it is the student's own training, bit for bit.

    Args:
        student, distiller, compile, data_preprocessor: see :class:`TaughtStudent`.
        cohort: teachers (config), see :class:`BaseCohort`. Not needed with ``kd_weight=0``.
        kd_loss: config of a loss of student logits (N, C) and teacher logits (M, N, C), and of labels (N,) if
            its ``needs_labels`` is True. With cached targets or ``teacher_batch`` the result of its method
            ``target`` takes the place of the teacher logits.
        ce_weight: weight of the student's own loss while distilling. Hooks may change it. At 0 images need no
            labels.
        kd_weight: weight of the distillation loss. Hooks may change it. At 0 no teacher forward runs.
        ce_weight_after_stop: weight of the student's own loss after :meth:`stop_distillation` (ESKD goes on
            with CE alone).
        reduction: 'mean', Eq. 4 and 5 of DIH. 'sum' is what the DIH authors' code minimises: each of the M
            teachers brings its own KD term and its own cross-entropy, so both are M times as large.
        targets: folder of cached targets (:class:`ckd_mm.targets.TargetFile`) of the settings of ``kd_loss``
            and the images of a replayable data set; no teacher is built then.
        teacher_batch: size of the teachers' batches; a smaller one is filled up with its last image. The last
            bits of an image's logits depend on the size of the batch, not on the other images: with the same
            ``teacher_batch`` cached targets are those of a run without a cache, bit for bit.

    Raises:
        ConfigError: naming the setting.
    """

    def __init__(self, student: dict | nn.Module, cohort: dict | BaseCohort | None = None,
                 kd_loss: dict | nn.Module = dict(type='ckd_mm.CohortKDLoss'), ce_weight: float = 1.0,
                 kd_weight: float = 1.0, ce_weight_after_stop: float = 1.0, distiller: dict | None = None,
                 compile: bool | dict = False, data_preprocessor: dict | None = None, reduction: str = 'mean',
                 targets: str | None = None, teacher_batch: int | None = None) -> None:
        check_choice('reduction', reduction, ('mean', 'sum'))
        for name, weight in dict(kd_weight=kd_weight, ce_weight=ce_weight,
                                 ce_weight_after_stop=ce_weight_after_stop).items():
            check_number(name, weight, **WEIGHT)
        if targets is not None and distiller is not None:
            raise ConfigError(f'targets={targets!r} and a distiller: it sees nothing of teachers that '
                              'do not run; take one of them out')
        if cohort is None and targets is None and (kd_weight > 0 or distiller is not None):
            raise ConfigError(f'cohort is missing: kd_weight={kd_weight} needs teachers; give a cohort, or '
                              'kd_weight=0')
        super().__init__(student, cohort, distiller, compile, data_preprocessor)
        self.kd_loss = kd_loss if isinstance(kd_loss, nn.Module) else MODELS.build(kd_loss)
        self.ce_weight, self.kd_weight, self.ce_weight_after_stop = ce_weight, kd_weight, ce_weight_after_stop
        self.reduction, self.teacher_batch, self.stopped = reduction, teacher_batch, False
        self.needs_labels = getattr(self.kd_loss, 'needs_labels', False)
        class_map = ClassMap.of(cohort.get('class_map')) if isinstance(cohort, dict) else \
            getattr(cohort, 'class_map', None)
        shared = None if class_map is None else class_map.shared
        self.shared_classes = nn.Identity() if shared is None else Columns(shared)
        if shared is not None and self.needs_labels:
            raise ConfigError(f'{type(self.kd_loss).__name__} compares with the label, and of '
                              f'{len(class_map.names)} classes the teachers have {len(shared)}; distil with '
                              'ckd_mm.CohortKDLoss')
        self.targets = None
        if targets is not None:
            self.targets = TargetFile(targets, getattr(self.kd_loss, 'target_settings', None))
        if (targets is not None or teacher_batch is not None) and not hasattr(self.kd_loss, 'target'):
            raise ConfigError(f'{type(self.kd_loss).__name__} has no method `target`, so what it needs of '
                              'the teachers cannot be kept; take targets out, or distil with '
                              'ckd_mm.CohortKDLoss')

    @property
    def distilling(self) -> bool:
        return not self.stopped and (self.kd_weight > 0 or self.distiller is not None)

    def replace_cohort(self, cohort: dict | BaseCohort) -> None:
        """Learn from other teachers from now on, built at their first use; the old ones are released."""
        if self.stopped:
            raise RuntimeError('distillation has stopped: no teacher may follow')
        self._set_cohort(cohort)

    def stop_distillation(self) -> None:
        """From now on the student trains alone; the teachers are released, or never loaded."""
        self.stopped = True
        self.verify_targets()
        self.targets = None
        self._set_cohort(None)

    @torch.no_grad()
    def broken_teachers(self, batch: dict) -> list[str]:
        if self.targets is None or self.stopped:
            return super().broken_teachers(batch)
        data = self.data_preprocessor(batch, True)
        target = self.targets.of(data['data_samples'], data['inputs'])
        return [] if torch.isfinite(target.log_p).all() else [f'the cached targets in {self.targets.folder}']

    def verify_targets(self) -> None:
        """Before a checkpoint, and at the end: see :meth:`TargetFile.verify`."""
        if self.targets is not None:
            self.targets.verify()

    def _set_cohort(self, cohort: dict | BaseCohort | None) -> None:
        self.outside.cohort, self.outside.ready = cohort, False
        self.clear_distiller()

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """``loss_ce`` and ``loss_kd``, weighted, and the distiller's; while nothing is distilled the
        student's own dict (its ``loss``), unchanged if its weight is 1."""
        if not self.distilling:
            return self._own_loss(inputs, data_samples)
        target, teachers = self._target(inputs, data_samples)
        times = teachers if self.reduction == 'sum' else 1
        losses = {}
        with self.recording('student'), output_of(logits_module(self.student)) as outputs:
            if self.ce_weight == 0 and not are_labelled(data_samples):
                self.student(inputs, mode='tensor')
            else:
                losses = weighted(self.student(inputs, data_samples, mode='loss'), times * self.ce_weight)
        if self.kd_weight > 0:
            labels = (hard_labels(data_samples), ) if self.needs_labels else ()
            logits = self.shared_classes(logits_of(outputs, self.student))
            loss = self.kd_loss(logits, target, *labels)
            losses['loss_kd'] = loss * (times * self.kd_weight)
        if self.distiller is not None:
            losses.update(self.distiller_losses())
        return losses

    def _own_loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        losses = self.student(inputs, data_samples, mode='loss')
        weight = self.ce_weight_after_stop if self.stopped else self.ce_weight
        losses = losses if weight == 1 else weighted(losses, weight)
        connectors = [] if self.distiller is None else list(self.distiller.parameters())
        if connectors:  # they still belong to DDP, which waits for a gradient of every parameter
            losses['loss_distiller'] = 0 * sum(parameter.sum() for parameter in connectors)
        return losses

    def _target(self, inputs: Tensor, data_samples: list) -> tuple[Tensor | SoftTarget, int]:
        """What the loss compares the student with, and the number of teachers it comes from."""
        if self.targets is not None:
            return self.targets.of(data_samples, inputs), self.targets.layout.teachers
        if self.teacher_batch is not None:
            return self.soft_target(inputs)
        logits = self.teacher_logits(inputs)
        return logits, len(logits)

    @torch.no_grad()
    def soft_target(self, inputs: Tensor) -> tuple[SoftTarget, int]:
        """The soft target of these images, from a batch of ``teacher_batch``; and the number of teachers."""
        logits = self.teacher_logits(filled_up(inputs, self.teacher_batch))
        target = self.kd_loss.target(logits)._replace(predicted=ensemble_prediction(logits))
        return target.first(len(inputs)), len(logits)


def filled_up(inputs: Tensor, size: int) -> Tensor:
    """A batch of at least ``size`` images: the last is repeated."""
    missing = size - len(inputs)
    if missing <= 0:
        return inputs
    filled = torch.cat([inputs, inputs[-1:].expand(missing, *inputs.shape[1:])])
    channels_last = not inputs.is_contiguous() and inputs.is_contiguous(memory_format=torch.channels_last)
    return filled.contiguous(memory_format=torch.channels_last) if channels_last else filled
