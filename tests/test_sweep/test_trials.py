"""The config of a trial: heads are trained as its teacher was, and schedules compare on the same images."""

import pytest

from ckd_mm.errors import ConfigError
from ckd_mm.sweep import Sweep, Trial, plan_trials

from ..helpers import opened, trajectory

HEADS = dict(out_indices=(0, 1), kind='flatten')


def heads_config(config):
    run, stages = opened(config)
    stages['select'].chosen = lambda run: [{}]
    return stages['heads'].config(run)


def test_heads_of_a_sweep_are_trained_as_those_of_a_run(distil_run, tmp_path):
    """Their training is the teacher's, which a trial knows only by its snapshots."""
    config = distil_run(selector='last', probe=None, heads=HEADS,
                        teacher=dict(optim_wrapper=dict(optimizer=dict(lr=0.01))))
    single = heads_config(config)
    trial = Trial('epoch', 3, epoch=3)
    swept = heads_config(trial.config(config, tmp_path / 'trial', [tmp_path / 'teacher_run']))
    assert (swept.train_cfg, swept.optim_wrapper) == (single.train_cfg, single.optim_wrapper)
    assert single.optim_wrapper.optimizer.lr == 0.01 and single.train_cfg.max_epochs == 3


def test_a_sweep_of_ensembles_has_no_heads(distil_run):
    with pytest.raises(ConfigError, match='heads are mounted on one snapshot, and 2 teach'):
        Sweep(distil_run(selector='last', probe=None, heads=HEADS),
              plan_trials([0], [], ['snapshot'], [1, 2]))


def test_a_schedule_that_compares_holds_out_the_same_images_of_every_trial(config, tmp_path):
    trajectory(tmp_path / 'teacher')
    made = config(distill=dict(schedule=dict(type='ckd_mm.StopWhenOvertakenHook')))
    for trial in plan_trials([0], [3]):
        run, stages = opened(trial.config(made, tmp_path / trial.name, [tmp_path / 'teacher']))
        assert stages['student'].config(run).train_dataloader.dataset.held_out == 16, trial.name
