"""A student that learns from a cohort of teachers."""


import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..losses.cohort_kd_loss import check_weight
from ..losses.soft_target import SoftTarget, ensemble_prediction
from ..registry import MODELS
from ..targets.target_file import TargetFile
from ..teachers import BaseCohort
from .classifier import hard_labels, logits_of, output_of, weighted
from .taught_student import TaughtStudent

REDUCTIONS = ('mean', 'sum')


@MODELS.register_module()
class CheckpointDistill(TaughtStudent):
    r"""loss = ``ce_weight`` * CE(student, label) + ``kd_weight`` * KD(student, cohort), Eq. 1 and 2 of
    CheckpointKD.

    Its checkpoints are the student's: ``state_dict`` has the keys of the plain classifier and nothing of the
    teachers, which are built from the config when the first distilled step needs them. With ``kd_weight=0``
    it is the student's own training, bit for bit.

    Args:
        student: mmpretrain classifier (config) whose ``head`` returns logits (N, C).
        cohort: teachers (config), see :class:`BaseCohort`. Not needed with ``kd_weight=0``.
        kd_loss: config of a loss called with student logits (N, C) and teacher logits (M, N, C), and with
            labels (N,) if it says ``needs_labels = True``. If it has a method ``target`` of the teacher
            logits, it is called with what that returns just as well.
        ce_weight: weight of the student's own loss while distilling; hooks may change it in
            ``self.ce_weight``.
        kd_weight: weight of the distillation loss; likewise ``self.kd_weight``. At 0 no teacher is asked.
        ce_weight_after_stop: weight of the student's own loss after :meth:`stop_distillation` (ESKD goes on
            with CE alone).
        distiller: config of an mmrazor ``ConfigurableDistiller`` for further losses, with recorders on
            student and cohort.
        compile: ``torch.compile`` the backbones and necks of student and teachers, each by itself; True or
            its options.
        reduction: 'mean', Eq. 4 and 5 of DIH. 'sum' is what the DIH authors' code minimises: each of the M
            teachers brings its own KD term and its own cross-entropy, so while distilling both are M times as
            large, and the gradient with them.
        targets: folder of teacher targets that were kept (:class:`ckd_mm.targets.TargetFile`), in which the
            images of
            :class:`ckd_mm.Views` are looked up; no teacher is built then. They must have been made for the
            settings of ``kd_loss``.
        teacher_batch: ask the teachers about so many images at a time, the last of a smaller batch repeated:
            an image's logits depend on the size of its batch by their last bits, not on its place and company
            there. Targets that are kept are made so, and a run with the same ``teacher_batch`` and without
            ``targets`` has the same, bit for bit.
        fast_teachers: see :class:`TaughtStudent`.

    Raises:
        ConfigError: naming the setting.
    """

    def __init__(self, student: dict | nn.Module, cohort: dict | BaseCohort | None = None,
                 kd_loss: dict | nn.Module = dict(type='ckd_mm.CohortKDLoss'), ce_weight: float = 1.0,
                 kd_weight: float = 1.0, ce_weight_after_stop: float = 1.0, distiller: dict | None = None,
                 compile: bool | dict = False, data_preprocessor: dict | None = None, reduction: str = 'mean',
                 targets: str | None = None, teacher_batch: int | None = None,
                 fast_teachers: bool = True) -> None:
        for name, value in dict(ce_weight=ce_weight, kd_weight=kd_weight,
                                ce_weight_after_stop=ce_weight_after_stop).items():
            check_weight(name, value)
        if reduction not in REDUCTIONS:
            raise ConfigError(f'reduction={reduction!r} should be one of {REDUCTIONS}')
        if targets is not None and distiller is not None:
            raise ConfigError(f'targets={targets!r} and a distiller: its recorders see nothing of teachers '
                              'that are not asked; take one of '
                              'them out')
        if cohort is None and targets is None and (kd_weight > 0 or distiller is not None):
            raise ConfigError(f'cohort is missing: kd_weight={kd_weight} needs teachers; give a cohort, or '
                              'kd_weight=0')
        super().__init__(student, cohort, distiller, compile, data_preprocessor, fast_teachers)
        self.kd_loss = kd_loss if isinstance(kd_loss, nn.Module) else MODELS.build(kd_loss)
        self.ce_weight, self.kd_weight, self.ce_weight_after_stop = ce_weight, kd_weight, ce_weight_after_stop
        self.reduction = reduction
        self.targets = None if targets is None else TargetFile(targets,
                                                               getattr(self.kd_loss, 'target_settings', None))
        self.teacher_batch = teacher_batch
        self.stopped = False
        if (targets is not None or teacher_batch is not None) and not hasattr(self.kd_loss, 'target'):
            raise ConfigError(f'{type(self.kd_loss).__name__} has no method `target`, so what it needs of '
                              'the teachers cannot be kept; '
                              'take targets out, or distil with ckd_mm.CohortKDLoss')
        if self._needs_labels and getattr(self.data_preprocessor, 'to_onehot', False):
            raise ConfigError(f'{type(self.kd_loss).__name__} needs one label an image, but '
                              'data_preprocessor makes shares of classes; '
                              'take batch_augments and to_onehot out of it, or distil with '
                              'ckd_mm.CohortKDLoss, which needs no labels')

    @property
    def _needs_labels(self) -> bool:
        return getattr(self.kd_loss, 'needs_labels', False)

    @property
    def distilling(self) -> bool:
        return not self.stopped and (self.kd_weight > 0 or self.distiller is not None)

    def replace_cohort(self, cohort: dict | BaseCohort) -> None:
        """Learn from other teachers from now on; the old are released, the new built at the first use. Not
        after the stop."""
        if self.stopped:
            raise RuntimeError('distillation has stopped: no teacher may follow')
        self._set_cohort(cohort)

    def stop_distillation(self) -> None:
        """From now on the student trains alone; the teachers are released, or never loaded."""
        self.stopped = True
        self.verify_targets()
        self.targets = None
        self._set_cohort(None)

    def verify_targets(self) -> None:
        """Before a checkpoint, and at the end: whether all images so far were those that the teachers saw,
        see :meth:`TargetFile.verify`."""
        if self.targets is not None:
            self.targets.verify()

    def _set_cohort(self, cohort: dict | BaseCohort | None) -> None:
        self._outside.cohort, self._outside.ready = cohort, False
        if self.distiller is not None:
            for recorder in self.distiller.teacher_recorders.recorders.values():
                recorder.reset_data_buffer()

    # ------------------------------------------------------------ the step
    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """``loss_ce`` and ``loss_kd``, weighted, and the distiller's; while there is nothing to distil the
        student's own
        dict (its ``loss``), unchanged if its weight is 1."""
        if not self.distilling:
            losses = self.student(inputs, data_samples, mode='loss')
            weight = self.ce_weight_after_stop if self.stopped else self.ce_weight
            losses = losses if weight == 1 else weighted(losses, weight)
            if self.distiller is not None and any(True for _ in self.distiller.parameters()):
                # connectors still belong to DDP, which waits for a gradient of every parameter
                losses['loss_distiller'] = 0 * sum(parameter.sum()
                                                   for parameter in self.distiller.parameters())
            return losses
        said, teachers = self._teachers_say(inputs, data_samples)
        times = teachers if self.reduction == 'sum' else 1
        with self.recording('student_recorders'), output_of(self.student.head) as outputs:
            losses = weighted(self.student(inputs, data_samples, mode='loss'), times * self.ce_weight)
        if self.kd_weight > 0:
            labels = (hard_labels(data_samples), ) if self._needs_labels else ()
            loss, weight = self.kd_loss(logits_of(outputs, self.student), said,
                                        *labels), times * self.kd_weight
            losses['loss_kd'] = loss if weight == 1 else loss * weight
        if self.distiller is not None:
            losses.update(self.distiller_losses())
        return losses

    def _teachers_say(self, inputs: Tensor, data_samples: list) -> tuple[Tensor | SoftTarget, int]:
        """What the loss compares the student with, and the number of teachers it comes from."""
        if self.targets is not None:
            return self.targets.of(data_samples, inputs), self.targets.teachers
        if self.teacher_batch is not None:
            return self.soft_target(inputs)
        teacher_logits = self.ask_teachers(inputs)
        return teacher_logits, len(teacher_logits)

    @torch.no_grad()
    def soft_target(self, inputs: Tensor) -> tuple[SoftTarget, int]:
        """The target that the teachers, asked ``teacher_batch`` images at a time, make of these; and their
        number."""
        teacher_logits = self.ask_teachers(_filled_up(inputs, self.teacher_batch))
        target = self.kd_loss.target(teacher_logits)._replace(predicted=ensemble_prediction(teacher_logits))
        return target.first(len(inputs)), len(teacher_logits)


def _filled_up(inputs: Tensor, size: int) -> Tensor:
    """A batch of at least ``size`` images: the last is repeated."""
    missing = size - len(inputs)
    if missing <= 0:
        return inputs
    filled = torch.cat([inputs, inputs[-1:].expand(missing, *inputs.shape[1:])])
    channels_last = not inputs.is_contiguous() and inputs.is_contiguous(memory_format=torch.channels_last)
    return filled.contiguous(memory_format=torch.channels_last) if channels_last else filled
