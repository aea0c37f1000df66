"""Distillations with schedules, and what is recorded of them."""

import itertools

import pytest
from mmengine.hooks import Hook

from ckd_mm.teachers import SnapshotEnsemble

from ..conftest import resnet
from ..helpers import StepLog, cohort_of, train, with_statistics

STOP = dict(type='ckd_mm.StopDistillationHook', stop_epoch=2)
ANNEAL = dict(type='ckd_mm.AnnealDistillationHook', begin=0, end=2)
PROGRESSIVE = dict(type='ckd_mm.ProgressiveTeacherHook')
HELD_OUT = dict(type='ckd_mm.Digits', split='test', indices=40, pipeline=[dict(type='PackInputs')])
OVERTAKEN = dict(type='ckd_mm.StopWhenOvertakenHook', dataset=HELD_OUT)
FROZEN = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0, momentum=0.0)))
RUN = itertools.count()


@pytest.fixture
def scheduled(digits_run, tmp_path):
    """Makes the config of a distillation in batches of 16, whose teachers are of snapshots 1, 2 and 3 of a
    trajectory."""

    def make(*schedule, teachers=(3, ), epochs=4, images=16, distill=None, statistics=None, **settings):
        teacher = with_statistics(resnet(2), **(statistics or {}))
        cohort = cohort_of(tmp_path / 'teacher', *teachers, model=teacher)
        settings.setdefault('work_dir', tmp_path / f'run_{next(RUN)}')
        config = digits_run(epochs=epochs, images=images, **settings)
        config.model = dict(dict(type='ckd_mm.CheckpointDistill', student=resnet(), ce_weight=0.25,
                                 kd_weight=0.5, cohort=cohort), **(distill or {}))
        config.custom_hooks = [dict(item) for item in schedule] + [dict(type='ckd_mm.StageStateHook')]
        config.train_cfg = dict(type='ckd_mm.ResumableEpochLoop', max_epochs=epochs, val_interval=100)
        return config

    return make


class Killed(BaseException):
    """Stands for a kill; nothing catches it."""


class Kill(Hook):
    priority = 'LOWEST'

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.iteration:
            raise Killed


def killed(config, iteration: int):
    """The config that resumes a run which was killed at the end of this iteration, counted from 1."""
    with pytest.raises(Killed):
        train(config, Kill(iteration))
    config.resume, config.load_from = True, None
    return config


@pytest.fixture
def teaching(monkeypatch):
    """Which snapshots (their epochs) taught in each step."""
    steps, logits = [], SnapshotEnsemble.member_logits

    def counted(cohort, inputs):
        steps.append([snapshot.epoch for snapshot in cohort.snapshots])
        return logits(cohort, inputs)

    monkeypatch.setattr(SnapshotEnsemble, 'member_logits', counted)
    return steps


class WeightLog(StepLog):
    """Also the weights that each step had, (ce_weight, kd_weight)."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        model = runner.model
        self.weights.append((model.ce_weight_after_stop, 0.0) if model.stopped else (model.ce_weight,
                                                                                     model.kd_weight))
