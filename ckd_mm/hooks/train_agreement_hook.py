"""How well the student mimics its teachers on the training images (ESKD, Tables 2 and 3, columns "Train")."""

import math
from typing import Any

import torch
from mmengine.dist import all_reduce, get_rank
from mmengine.hooks import Hook
from torch import Tensor, nn

from ..losses.soft_target import SoftTarget, ensemble_prediction
from ..registry import HOOKS
from ..students.checkpoint_distill import CheckpointDistill
from ..training import unwrap

KEY = 'ckd_mm_train_agreement'  # in checkpoints


@HOOKS.register_module()
class TrainAgreementHook(Hook):
    """Log once an epoch, from the forward passes of training itself:

    - ``train/kd_error``: share of images, in percent, of which student and teachers predict different
      classes;
    - ``train/kd_loss``: the model's ``kd_loss``, before ``kd_weight``; with ``CohortKDLoss`` tau squared KL;
    - ``train/ce``: the loss of the student's head, before ``ce_weight``.

    They are means over the images as the student saw them: augmented, in train mode, and while it learned.
    ESKD does not say how its columns were measured; ``KDMetric`` over the unaugmented training images costs a
    pass of its own and is mostly lower.

    Steps without ``kd_loss`` (after the stop, without a teacher, with ``kd_weight=0``) do not count, and an
    epoch of such steps is not logged. Counts of an unfinished epoch travel in the checkpoint; of several
    processes only those of the first do, and the epoch's means then leave out what the others had counted.

    Attributes:
        last: the numbers of the last epoch that had any, and the ``epoch``, counted from 1.
    """

    def __init__(self) -> None:
        self.last: dict[str, float] | None = None
        self._sums: Tensor | None = None  # images, disagreements, sum of KD losses, sum of cross-entropies
        self._restored: Tensor | None = None
        self._handles = []
        self._cross_entropy: Tensor | None = None

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
        loss_module = getattr(getattr(model.student, 'head', model.student), 'loss_module', None)
        if isinstance(loss_module, nn.Module):
            self._handles.append(loss_module.register_forward_hook(self._keep_cross_entropy))

    def after_train(self, runner) -> None:
        for handle in self._handles:
            handle.remove()

    def _keep_cross_entropy(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if module.training:  # kd_loss follows in the same step; in validation it does not
            self._cross_entropy = output.detach()

    @torch.no_grad()
    def _count(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if not module.training:
            return
        student, target = inputs[:2]
        predicted = target.predicted if isinstance(target, SoftTarget) else ensemble_prediction(target)
        images, differ = len(student), (student.argmax(dim=1) != predicted).sum().double()
        losses = [differ.new_full((), math.nan) if loss is None else images * loss.detach().double()
                  for loss in (output, self._cross_entropy)]
        # stays on the device: training does not wait for it
        step = torch.stack([differ.new_full((), images), differ, *losses])
        self._sums = step if self._sums is None else self._sums.to(step.device) + step
        self._cross_entropy = None

    def before_train_epoch(self, runner) -> None:
        # ckd_mm's loop goes on inside the epoch in which a run was left; mmengine's starts it again
        inside = getattr(runner.train_loop, 'position', 0) > 0
        self._sums, self._restored = (self._restored if inside else None), None

    def after_train_epoch(self, runner) -> None:
        sums = torch.zeros(4, dtype=torch.float64) if self._sums is None else self._sums.cpu()
        self._sums = None
        all_reduce(sums)
        images, differ, kd_loss, cross_entropy = sums.tolist()
        if images == 0:
            return
        values = dict(kd_error=100 * differ / images, kd_loss=kd_loss / images, ce=cross_entropy / images)
        values = {name: value for name, value in values.items() if not math.isnan(value)}
        self.last = dict(epoch=runner.epoch + 1, **values)
        logged = {f'train/{name}': value for name, value in values.items()}
        runner.logger.info(f'Epoch {runner.epoch + 1} on the training images: ' +
                           '  '.join(f'{name}: {value:.4f}' for name, value in logged.items()))
        # mmengine's message hub would smooth these numbers and repeat them in each line of the next epoch
        runner.visualizer.add_scalars(logged, step=runner.epoch + 1)

    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = dict(last=self.last, sums=None if self._sums is None else self._sums.cpu())

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        if runner._resume and KEY in checkpoint:
            self.last = checkpoint[KEY]['last']
            if get_rank() == 0:  # whose counts they are
                self._restored = checkpoint[KEY]['sums']
