"""Schedules of trainings that count iterations."""

import re
from pathlib import Path

import pytest

from ..helpers import train
from .conftest import ANNEAL, OVERTAKEN, PROGRESSIVE, WeightLog

LOOP = dict(by_epoch=False, max_iters=6)


@pytest.fixture
def iterated(scheduled):

    def make(*schedule, **settings):
        config = scheduled(*schedule, images=32, **settings)  # two batches an epoch
        config.train_cfg = dict(LOOP)
        config.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=6)
        return config

    return make


def test_the_weight_changes_over_iterations_and_ends_with_the_teacher(iterated):
    """From 0.5 to 0 in four of six iterations, each half an epoch of the images."""
    log = WeightLog()
    train(iterated(dict(ANNEAL, end=4)), log)
    assert log.weights == [(0.25, 0.5), (0.25, 0.375), (0.25, 0.25), (0.25, 0.125), (0.25, 0.0), (0.25, 0.0)]


def test_a_stop_after_iterations(iterated, teaching):
    train(iterated(dict(type='ckd_mm.StopDistillationHook', stop_iter=3)))
    assert teaching == [[3]] * 3


def test_teachers_take_turns_in_iterations(iterated, teaching):
    train(iterated(dict(PROGRESSIVE, starts=[0, 1, 5]), teachers=(1, 2, 3)))
    assert teaching == [[1], [2], [2], [2], [2], [3]]


def test_the_comparison_with_the_teacher_comes_every_so_many_iterations(iterated):
    runner = train(iterated(dict(OVERTAKEN, interval=2, margin=100)))
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    assert re.findall(r'Held-out images after (\d+) iterations:', log) == ['2', '4', '6']
