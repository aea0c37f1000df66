"""A schedule that is shorter or longer than its training is named before the training."""

import math
import re

import numpy as np
import pytest

from ckd_mm.pipeline.schedule_check import misfit, simulated

from ..conftest import resnet
from ..helpers import prepared

COSINE = dict(type='CosineAnnealingLR', T_max=8, by_epoch=True)
EPOCHS = 'whole numbers of epochs below 8'
WARM_UP = dict(type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=2)


def cosine(epoch: float, length: float) -> float:
    return (1 + math.cos(math.pi * epoch / length)) / 2


def test_the_simulation_is_the_formula():
    """Of a cosine that is stepped after each iteration and after each epoch, and of what follows its end."""
    expected = [cosine(iteration / 5, 8) for iteration in range(20 * 5)]
    found = simulated([dict(COSINE, convert_to_iter_based=True)], 1.0, 20, 5)
    assert found == pytest.approx(expected, abs=1e-6)
    by_epoch = np.repeat([cosine(epoch, 8) for epoch in range(20)], 5)
    assert simulated([COSINE], 1.0, 20, 5) == pytest.approx(by_epoch, abs=1e-6)


@pytest.mark.parametrize('schedulers', [
    [], [COSINE], [dict(COSINE, convert_to_iter_based=True)], [WARM_UP, dict(COSINE, T_max=6, begin=2)],
    [WARM_UP, dict(COSINE, T_max=6, begin=2, end=8)], [WARM_UP, dict(type='CosineAnnealingLR', begin=2)],
    [dict(WARM_UP, convert_to_iter_based=True), dict(COSINE, eta_min=0.01)],
    [dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=10)],
    [dict(type='CosineAnnealingLR', by_epoch=False, T_max=8 * 7)],
    [dict(type='OneCycleLR', eta_max=1.0, total_steps=8)], [dict(type='OneCycleLR', eta_max=1.0)],
    [dict(type='CosineRestartLR', periods=[2, 2, 4], restart_weights=[1, 1, 1], eta_min=0)],
    [dict(type='CosineRestartLR', periods=[4] * 4, restart_weights=[1] * 4, eta_min=0)],
    [dict(type='MultiStepLR', milestones=[3, 6])], [dict(type='MultiStepLR', milestones=[3, 60])],
    [dict(type='StepLR', step_size=3)], [dict(type='StepLR', step_size=3, begin=2)],
    [dict(type='ExponentialLR', gamma=0.7)],
    [dict(type='PolyLR', power=0.9)], [WARM_UP, dict(type='MultiStepLR', milestones=[3, 6])],
    [dict(COSINE, T_max=4, end=4), dict(type='LinearLR', begin=4, end=8)],
    [COSINE, dict(type='CosineAnnealingMomentum', T_max=8)],
    [dict(type='ReduceOnPlateauLR', monitor='loss')]])
def test_schedules_that_fit_eight_epochs(schedulers):
    assert misfit(schedulers, 1.0, 8, 7) is None


def test_a_cosine_that_counts_the_warm_up_too():
    """As many recipes have it: the end is near enough."""
    assert misfit([dict(WARM_UP, end=5), dict(COSINE, T_max=100, begin=5)], 1.0, 100, 7) is None


@pytest.mark.parametrize('schedulers, epochs, happens, fitting', [
    ([COSINE], 16, 'falls to 0 until epoch 9 and rises again, to 0.962 in epoch 16', 'T_max=16'),
    ([dict(COSINE, convert_to_iter_based=True)], 10,
     'falls to 0 until epoch 9 and rises again, to 0.127 in epoch 10', 'T_max=10'),
    ([WARM_UP, dict(COSINE, T_max=6, begin=2)], 16, 'rises again', 'T_max=14'),
    ([dict(COSINE, T_max=8 * 7, by_epoch=False)], 16, 'rises again', 'T_max=112'),
    ([dict(COSINE, eta_min=0.3)], 16, 'falls to 0.3 until', 'T_max=16'),
    ([dict(COSINE, end=8)], 16, 'stays at 0.0381 after epoch 8', 'T_max=16, end=16'),
    ([dict(type='PolyLR', power=0.9, end=8)], 16, 'stays at 0 after epoch 8', 'end=16'),
    ([COSINE], 4, 'ends at 0.691, where its schedule would go on to 0.0381 after 8 epochs', 'T_max=4'),
    ([dict(type='OneCycleLR', eta_max=1.0, total_steps=8)], 4, 'ends at', 'total_steps=4'),
    *(([dict(type='MultiStepLR', milestones=milestones)], 8, 'changes nothing', EPOCHS)
      for milestones in ('3,6', ['3', '6'], [0.3, 0.6], [30, 60])),
    ([dict(type='MultiStepLR', milestones=[99], by_epoch=False)], 8, 'changes nothing',
     'whole numbers of iterations below 56'),
    ([COSINE, dict(type='MultiStepLR', milestones=[3], begin=8, end=9)], 8, 'changes nothing', EPOCHS),
    ([dict(WARM_UP, end=100), dict(type='StepLR', step_size=5)], 8, 'comes to 0.05,', 'a highest rate of 1'),
    ([dict(type='ConstantLR', factor=0.1, end=9)], 8, 'comes to 0.1, ', 'a highest rate of 1'),
    ([dict(COSINE, eta_min=5)], 8, 'comes to 4.8', 'a highest rate of 1')])
def test_schedules_that_do_not_fit(schedulers, epochs, happens, fitting):
    found = misfit(schedulers, 1.0, epochs, 7)
    assert happens in found[0] and found[2] == fitting


# ------------------------------------------------------------ in a run
def warnings_of(config) -> list[str]:
    return [line for line in prepared(config)[1] if 'learning rate' in line]


def test_the_example_of_a_teacher_that_is_trained_longer(distil_run):
    """It inherits the cosine of the student, whose own is right; so is that which the message names."""
    config = distil_run(selector='last', probe=None, generations=2, student_alone=2,
                        param_scheduler=dict(type='CosineAnnealingLR', T_max=2, by_epoch=True))
    config.teacher.train_cfg.max_epochs = 4
    warning, = warnings_of(config)
    assert warning == ('teacher: the learning rate falls to 0 until epoch 3 and rises again, to 0.025 in '
                       'epoch 4: param_scheduler has CosineAnnealingLR with T_max=2, by_epoch=True, and '
                       'teacher.train_cfg.max_epochs=4. If that is not meant, give '
                       'teacher=dict(param_scheduler=...) with T_max=4')
    config.teacher.param_scheduler = dict(T_max=4)
    assert warnings_of(config) == []


def test_every_stage_is_looked_at_and_the_students_once(distil_run):
    config = distil_run(selector='last', probe=None, student_alone=2, assistants=[dict(model=resnet(2))],
                        heads=dict(out_indices=(0, 1), kind='flatten', train_cfg=dict(max_epochs=9)),
                        param_scheduler=dict(type='CosineAnnealingLR', T_max=20))
    config.teacher.param_scheduler = dict(T_max=3)
    stages = [re.match(r'[\w ]+', line)[0] for line in warnings_of(config)]
    assert stages == ['heads', 'assistant 1', 'student']
