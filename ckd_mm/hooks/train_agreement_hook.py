"""How well the student mimics its teachers on the training images (ESKD, Tables 2 and 3, the columns
"Train")."""

from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank
from mmengine.hooks import Hook
from torch import Tensor, nn

from ..losses.soft_target import SoftTarget, ensemble_prediction
from ..registry import HOOKS
from ..students.checkpoint_distill import CheckpointDistill
from ..training import unwrap

KEY = 'ckd_mm_train_agreement'
NAMES = ('kd_error', 'kd_loss', 'ce')


@HOOKS.register_module()
class TrainAgreementHook(Hook):
    """Log once an epoch, from the forward passes of training itself:

    - ``train/kd_error``: share of images, in percent, of which student and teachers predict different
      classes;
    - ``train/kd_loss``: what the model's ``kd_loss`` said, before ``kd_weight``; with ``CohortKDLoss`` tau
      squared KL;
    - ``train/ce``: what the loss of the student's head said, before ``ce_weight``.

    These are means over the images as the student saw them: augmented, in train mode, and while it learned,
    so early batches of an epoch met another student than late ones. ESKD does not say how its columns were
    measured; an evaluation of the finished student on the unaugmented training images, ``KDMetric`` over
    them, costs a pass of its own and is mostly lower.

    In steps without ``kd_loss`` (after the stop, in runs without a teacher, with ``kd_weight=0`` and a
    distiller alone) nothing is counted, and of an epoch without any nothing is logged. A run resumed inside
    an epoch goes on counting where it was; of several processes only the first one's counts travel in the
    checkpoint, so that epoch's means then leave out what the others had seen.

    Attributes:
        last: the numbers of the last epoch that had any, and the ``epoch``, counted from 1.
    """

    def __init__(self) -> None:
        self.last: dict[str, float] | None = None
        self._sums: Tensor | None = None  # images, disagreements, sum of KD losses, sum of cross-entropies
        self._restored: Tensor | None = None
        self._handles = []
        self._cross_entropy: Tensor | None = None

    # ------------------------------------------------------------ listening
    def before_train(self, runner) -> None:
        model = unwrap(runner.model)
        if not isinstance(model, CheckpointDistill):
            runner.logger.info('TrainAgreementHook: the model is no ckd_mm.CheckpointDistill, so there is no '
                               'agreement to log.')
            return
        if model.distilling and model.kd_weight == 0:
            runner.logger.info('TrainAgreementHook: with kd_weight=0 the logits of student and teachers are '
                               'not compared, so there is no agreement to log.')
        self._handles = [model.kd_loss.register_forward_hook(self._count)]
        loss_module = getattr(model.student.head, 'loss_module', None)
        if isinstance(loss_module, nn.Module):
            self._handles.append(loss_module.register_forward_hook(self._keep_cross_entropy))

    def after_train(self, runner) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _keep_cross_entropy(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if module.training:  # a step of training, whose kd_loss comes next; not a validation
            self._cross_entropy = output.detach()

    @torch.no_grad()
    def _count(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if not module.training:
            return
        student, teachers = inputs[:2]
        if isinstance(teachers, SoftTarget):  # targets that were kept
            predicted = teachers.predicted
        else:
            predicted = ensemble_prediction(teachers[None] if teachers.dim() == 2 else teachers)
        images = len(student)
        differ = (student.argmax(dim=1) != predicted).sum()
        nothing = output.new_full((), float('nan'))
        cross_entropy = nothing if self._cross_entropy is None else self._cross_entropy
        # on the device: nothing waits for it here
        step = torch.stack(
            [value.double() for value in (differ, output.detach() * images, cross_entropy * images)])
        step = torch.cat((step.new_full((1, ), images), step))
        self._sums = step if self._sums is None else self._sums.to(step.device) + step
        self._cross_entropy = None

    # ------------------------------------------------------------ the epoch
    def before_train_epoch(self, runner) -> None:
        # mmengine's own loop starts an epoch again in which a run was left; only ckd_mm's goes on inside it
        inside = getattr(runner.train_loop, 'position', 0) > 0
        self._sums, self._restored = (self._restored if inside else None), None

    def after_train_epoch(self, runner) -> None:
        sums = (torch.zeros(4, dtype=torch.float64) if self._sums is None else self._sums).cpu()
        self._sums = None
        all_reduce(sums)
        images, *rest = sums.tolist()
        if images == 0:
            return
        differ, kd_loss, cross_entropy = (value / images for value in rest)
        values = dict(zip(NAMES, (100 * differ, kd_loss, cross_entropy)))
        values = {
            name: value
            for name, value in values.items() if value == value
        }  # without what no head reported
        self.last = dict(epoch=runner.epoch + 1, **values)
        runner.logger.info(f'Epoch {runner.epoch + 1} on the training images: ' +
                           '  '.join(f'train/{name}: {value:.4f}' for name, value in values.items()))
        # not through mmengine's message hub, which would repeat these numbers in each line of the next epoch
        # and smooth them
        runner.visualizer.add_scalars({
            f'train/{name}': value
            for name, value in values.items()
        }, step=runner.epoch + 1)

    # ------------------------------------------------------------ state
    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = dict(last=self.last, sums=None if self._sums is None else self._sums.cpu())

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        if runner._resume and KEY in checkpoint:
            self.last = checkpoint[KEY]['last']
            self._restored = checkpoint[KEY]['sums'] if get_rank(
            ) == 0 else None  # rank 0 wrote them, of its own share
