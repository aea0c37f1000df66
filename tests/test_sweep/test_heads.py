"""Sweeps over teachers with heads."""

import pytest

from ckd_mm.errors import ConfigError
from ckd_mm.pipeline.build import open_run, stage_of
from ckd_mm.sweep import Sweep, Trial, plan_trials

HEADS = dict(out_indices=(0, 1), kind='flatten')


def heads_config(config):
    run, stages = open_run(config)
    stage_of(stages, 'select').chosen = lambda run: [{}]
    return stage_of(stages, 'heads').config(run, (3, 8, 8))


def test_heads_of_a_sweep_are_trained_as_those_of_a_run(distil_run, tmp_path):
    """Their training is the teacher's, which a trial knows only by its snapshots."""
    config = distil_run(selector='last', probe=None, heads=HEADS,
                        teacher=dict(optim_wrapper=dict(optimizer=dict(lr=0.01))))
    single = heads_config(config)
    swept = heads_config(
        Trial('epoch', 3, epoch=3).config(config, tmp_path / 'trial', [tmp_path / 'teacher_run']))
    for key in ('train_cfg', 'optim_wrapper'):
        assert swept[key] == single[key], key
    assert single.optim_wrapper.optimizer.lr == 0.01 and single.train_cfg.max_epochs == 3


def test_a_sweep_of_ensembles_has_no_heads(distil_run):
    with pytest.raises(ConfigError, match='heads are mounted on one snapshot, and 2 teach'):
        Sweep(distil_run(selector='last', probe=None, heads=HEADS), plan_trials([0], [], ['snapshot'],
                                                                                [1, 2]))
