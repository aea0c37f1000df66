"""Distil until the student is better than its teacher."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from mmengine.dataset import default_collate
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import EMAHook
from mmpretrain.registry import DATASETS
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ..data.split import held_out_indices
from ..errors import ConfigError
from ..registry import HOOKS
from ..validate import check_number
from .schedule_hook import ScheduleHook

KEY = 'ckd_mm_overtaken'


@HOOKS.register_module()
class StopWhenOvertakenHook(ScheduleHook):
    """Stop distilling when the student classifies held-out images better than its teachers do (after arXiv
    2604.15451).

    The student (its averaged weights, if the run has an ``EMAHook``) is evaluated after an epoch, before the
    checkpoint of that epoch is written; the teachers once, together. What was found travels in the
    checkpoints, so a run resumed past the stop never loads the teacher. All processes share the images and
    come to one decision. Training is not disturbed (random state, modes).

    Args:
        dataset: config of images on which neither student nor teacher is trained, with the evaluation
            pipeline: say ``dict(type='ckd_mm.split_dataset', part='held_out', ...)`` of a training set whose
            ``part='rest'`` is trained on.
        num_images: look at most at this many of them; None: at all.
        seed: of their draw.
        interval: evaluate every so many epochs.
        margin: percentage points of top-1 accuracy by which the student has to be better.
        patience: number of evaluations in a row in which it has to be.
    """

    stops = True
    needs_one_teacher = True

    def __init__(self, dataset: dict, num_images: int | None = 5000, seed: int = 0, interval: int = 1,
                 margin: float = 0.0, patience: int = 1) -> None:
        for name, value in dict(interval=interval, patience=patience,
                                num_images=1 if num_images is None else num_images).items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f'StopWhenOvertakenHook: {name}={value!r} should be a whole number, at '
                                  'least 1')
        check_number('StopWhenOvertakenHook: margin', margin, at_least=0)
        self.dataset, self.num_images, self.seed = dataset, num_images, seed
        self.interval, self.margin, self.patience = interval, margin, patience
        self.teacher: float | None = None  # accuracy in percent
        self.wins = 0
        self.overtaken = False

    def check(self, max_epochs, distilled_epochs, teachers) -> None:
        if self.interval * self.patience > max_epochs:
            raise ConfigError(f'StopWhenOvertakenHook: {self.patience} evaluations, one every '
                              f'{self.interval} epochs, never come: the run has {max_epochs} epochs')

    def is_over(self, checkpoint: dict[str, Any]) -> bool:
        return checkpoint.get(KEY, {}).get('overtaken', False)

    # ------------------------------------------------------------ state
    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = dict(teacher=self.teacher, wins=self.wins, overtaken=self.overtaken)

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        if runner._resume and KEY in checkpoint:
            state = checkpoint[KEY]
            self.teacher, self.wins, self.overtaken = state['teacher'], state['wins'], state['overtaken']

    # ------------------------------------------------------------ the schedule
    def before_train(self, runner) -> None:
        super().before_train(runner)
        model = self.model_of(runner)
        if self.overtaken:
            self.stop(runner, 'in an earlier part of this run')
        self.loader: DataLoader | None = None
        if model.distilling:  # otherwise it is over, or a weight that rises from 0 has not risen yet
            self._look_at_teacher(runner)

    def _look_at_teacher(self, runner) -> None:
        self.loader = self._loader(runner)
        if self.teacher is None:
            model = self.model_of(runner)
            preprocessor, cohort = model.data_preprocessor, model.cohort
            self.teacher = self._accuracy(preprocessor, cohort.to(preprocessor.device), cohort)
            runner.logger.info(f'The teacher classifies {self.teacher:.2f} % of the held-out images rightly.')
            # nobody else asks it: it goes back to what it is built from
            if model.targets is not None and model.cohort_config is not None:
                model.replace_cohort(model.cohort_config)

    def after_train_epoch(self, runner) -> None:
        model = self.model_of(runner)
        if not model.distilling or not self.every_n_epochs(runner, self.interval):
            return
        if self.loader is None:
            self._look_at_teacher(runner)
        averaged = next((hook.ema_model.module for hook in runner.hooks if isinstance(hook, EMAHook)), model)
        student = self._accuracy(model.data_preprocessor, averaged.student,
                                 lambda inputs: averaged.student(inputs, mode='tensor')[None])
        self.wins = self.wins + 1 if student > self.teacher + self.margin else 0
        runner.logger.info(f'Held-out images after {runner.epoch + 1} epochs: student {student:.2f} %, '
                           f'teacher {self.teacher:.2f} %')
        if self.wins >= self.patience:
            self.overtaken = True
            self.stop(runner, f'after {runner.epoch + 1} epochs: the student has overtaken the teacher')

    def _loader(self, runner) -> DataLoader:
        """This process's share of the images."""
        images = DATASETS.build(copy.deepcopy(self.dataset))
        chosen = list(range(len(images)))
        if self.num_images is not None and self.num_images < len(images):
            chosen = held_out_indices(len(images), self.num_images, self.seed)
        training = runner.train_dataloader
        return DataLoader(Subset(images, chosen[get_rank()::get_world_size()]),
                          batch_size=training.batch_size or 32, num_workers=training.num_workers,
                          collate_fn=default_collate)

    @torch.no_grad()
    def _accuracy(self, preprocessor: nn.Module, network: nn.Module, logits_of: Callable[[Tensor],
                                                                                         Tensor]) -> float:
        """Top-1 accuracy in percent, over all processes.

        Args:
            logits_of: gives logits (M, N, C) of inputs that the student's preprocessor made; M are heard as
                an ensemble.
        """
        right = torch.zeros(2, dtype=torch.int64)
        was_training = network.training
        network.eval()
        with torch.random.fork_rng(devices=[]):  # a loader draws a seed
            for batch in self.loader:
                data = preprocessor(batch, False)
                predicted = logits_of(data['inputs']).float().softmax(dim=2).mean(dim=0).argmax(dim=1)
                labels = torch.cat([sample.gt_label for sample in data['data_samples']])
                right += torch.tensor([(predicted == labels.to(predicted.device)).sum().item(), len(labels)])
        network.train(was_training)
        all_reduce(right)
        return 100 * right[0].item() / right[1].item()
