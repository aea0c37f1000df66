"""Distil until the student is better than its teacher."""

import copy
from typing import Any

import torch
from mmengine.dataset import default_collate
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmpretrain.registry import DATASETS
from torch import nn
from torch.utils.data import DataLoader, Subset

from ..counting import ITER
from ..data.damaged import name_damaged
from ..data.split import held_out_indices
from ..errors import ConfigError
from ..registry import HOOKS
from ..training import averaged_weights
from ..validate import check_int, check_number
from .schedule_hook import ScheduleHook

KEY = 'ckd_mm_overtaken'  # in checkpoints


@HOOKS.register_module()
class StopWhenOvertakenHook(ScheduleHook):
    """Stop distilling when the student classifies held-out images better than its teachers (after arXiv
    2604.15451).

    The teachers are evaluated together, once, before training; the student (its averaged weights, if the run
    has an ``EMAHook``) after an epoch, before that epoch's checkpoint. Processes share the images. Training
    is not disturbed (random state, modes), and a run resumed past the stop does not load the teachers.

    Args:
        dataset: config, with the evaluation pipeline, of images on which neither student nor teacher is
            trained, say ``dict(type='ckd_mm.split_dataset', part='held_out', ...)``.
        num_images: at most this many of them are drawn; None: all.
        seed: of the draw.
        interval: epochs between two evaluations, 1 by default; in a training by iterations so many of these.
        margin: percentage points of top-1 accuracy by which the student has to be better.
        patience: number of evaluations in a row in which it has to be.
    """

    stops = True
    needs_one_teacher = True

    def __init__(self, dataset: dict, num_images: int | None = 5000, seed: int = 0,
                 interval: int | None = None, margin: float = 0.0, patience: int = 1) -> None:
        name = 'StopWhenOvertakenHook'
        if num_images is not None:
            check_int(f'{name}: num_images', num_images, 1)
        self.dataset, self.num_images, self.seed = dataset, num_images, seed
        self.given = interval is not None
        self.interval = check_int(f'{name}: interval', interval, 1) if self.given else 1
        self.margin = check_number(f'{name}: margin', margin, at_least=0)
        self.patience = check_int(f'{name}: patience', patience, 1)
        self.teacher: float | None = None  # accuracy in percent
        self.wins = 0
        self.overtaken = False

    def check(self, length, distilled, teachers) -> None:
        if length.unit == ITER and not self.given:
            raise ConfigError('StopWhenOvertakenHook: interval is missing: how many iterations lie between '
                              'two evaluations')
        if self.interval * self.patience > length:
            raise ConfigError(f'StopWhenOvertakenHook: {self.patience} evaluations, one every '
                              f'{self.interval} {length.words}, never come: the run has {length.text}')

    def before_save_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = dict(teacher=self.teacher, wins=self.wins, overtaken=self.overtaken)

    def after_load_checkpoint(self, runner, checkpoint: dict[str, Any]) -> None:
        if runner._resume and KEY in checkpoint:
            state = checkpoint[KEY]
            self.teacher, self.wins, self.overtaken = state['teacher'], state['wins'], state['overtaken']

    def before_train(self, runner) -> None:
        super().before_train(runner)
        model = self.model
        if self.overtaken:
            self.stop(runner, 'in an earlier part of this run')
        if not model.has_teachers:
            return
        self.loader = self._loader(runner)
        if self.teacher is None:
            cohort = model.cohort.to(model.data_preprocessor.device)
            self.teacher = top1_accuracy(self.loader, model.data_preprocessor, cohort)
            runner.logger.info(f'The teacher classifies {self.teacher:.2f} % of held-out images correctly.')
            if model.targets is not None:  # cached: training needs no teacher in memory
                model.replace_cohort(model.cohort_config)

    def after_one(self, runner, done) -> None:
        model, after = self.model, f'after {done} {self.length.words}'
        if not model.distilling or done % self.interval:
            return
        averaged = averaged_weights(runner) or model
        student = top1_accuracy(self.loader, model.data_preprocessor, averaged.student)
        self.wins = self.wins + 1 if student > self.teacher + self.margin else 0
        runner.logger.info(f'Held-out images {after}: student {student:.2f} %, '
                           f'teacher {self.teacher:.2f} %')
        if self.wins >= self.patience:
            self.overtaken = True
            self.stop(runner, f'{after}: the student has overtaken the teacher')

    def _loader(self, runner) -> DataLoader:
        """This process's share of the images."""
        images = name_damaged(DATASETS.build(copy.deepcopy(self.dataset)))
        chosen = range(len(images))
        if self.num_images is not None and self.num_images < len(images):
            chosen = held_out_indices(len(images), self.num_images, self.seed)
        training = runner.train_dataloader
        return DataLoader(Subset(images, chosen[get_rank()::get_world_size()]),
                          batch_size=training.batch_size or 32, num_workers=training.num_workers,
                          collate_fn=default_collate)


@torch.no_grad()
def top1_accuracy(loader: DataLoader, preprocessor: nn.Module, network: nn.Module) -> float:
    """Top-1 accuracy in percent of a classifier or cohort, over all processes, in eval mode."""
    right = torch.zeros(2, dtype=torch.int64)
    was_training = network.training
    network.eval()
    with torch.random.fork_rng(devices=[]):  # a loader draws a seed
        for batch in loader:
            data = preprocessor(batch, False)
            samples = network(data['inputs'], mode='predict')
            predicted = torch.cat([sample.pred_label for sample in samples])
            labels = torch.cat([sample.gt_label for sample in data['data_samples']])
            right += torch.tensor([(predicted == labels.to(predicted.device)).sum().item(), len(labels)])
    network.train(was_training)
    all_reduce(right)
    return 100 * right[0].item() / right[1].item()
