"""The annealed weight: its truth table, its effect on the loss, and resumed as if never interrupted."""

import math

import pytest
from torch.testing import assert_close

from ckd_mm.errors import ConfigError
from ckd_mm.hooks import AnnealDistillationHook
from ckd_mm.hooks.anneal_distillation_hook import annealed

from ..helpers import StepLog, assert_same_weights, logged, train
from .conftest import ANNEAL, FROZEN, WeightLog, killed

LATER = dict(ANNEAL, begin=1, end=3)
HALVES = [0.5] * 4 + [0.5 - 0.0625 * step for step in range(8)] + [0.0] * 4


@pytest.mark.parametrize('mode, part, expected', [
    ('linear', -1.0, 0.8), ('linear', 0.0, 0.8), ('linear', 0.25, 0.65), ('linear', 0.5, 0.5),
    ('linear', 1.0, 0.2), ('linear', 7.0, 0.2), ('cosine', -1.0, 0.8), ('cosine', 0.0, 0.8),
    ('cosine', 1 / 3, 0.65), ('cosine', 0.5, 0.5), ('cosine', 0.75, 0.5 - 0.3 * math.sqrt(0.5)),
    ('cosine', 1.0, 0.2), ('cosine', 7.0, 0.2)])
def test_annealed(mode, part, expected):
    """From 0.8 to 0.2; cos(60 degrees) is a half, so a third of the way of the cosine is a quarter of the
    change."""
    assert annealed(0.8, 0.2, part, mode) == pytest.approx(expected, abs=1e-12)
    ends = annealed(0.9, 0.3, 0.0, mode), annealed(0.9, 0.3, 1.0, mode), annealed(0.7, 0.0, 1.0, mode)
    assert ends == (0.9, 0.3, 0.0)  # exactly


def test_truth_table(scheduled, teaching):
    """Four iterations an epoch: constant for one epoch, down for two, then no teacher."""
    log = WeightLog()
    config = scheduled(LATER, images=64)
    config.default_hooks.logger.interval = 1
    runner = train(config, log)
    assert log.weights == [(0.25, weight) for weight in HALVES]
    assert teaching == [[3]] * 12
    assert runner.model.stopped and runner.model.cohort is None
    rows = logged(runner.work_dir, 'loss')
    assert [row['kd_weight'] for row in rows] == HALVES
    terms = [set(row) & {'loss_ce', 'loss_kd'} for row in rows]
    assert terms == [{'loss_ce', 'loss_kd'}] * 12 + [{'loss_ce'}] * 4


def test_the_weight_weighs_the_loss(scheduled):
    """With frozen networks each KD term is that of an unscheduled run times weight / 0.5. The weight itself
    is no term of the loss."""
    logs = [StepLog(), StepLog()]
    for schedule, log in zip(([dict(LATER, end_value=0.25)], []), logs):
        train(scheduled(*schedule, epochs=3, images=64, **FROZEN), log)
    weights = [0.5] * 4 + [0.5 - 0.25 * step / 8 for step in range(8)]
    for weight, (_, step), (_, constant) in zip(weights, logs[0].steps, logs[1].steps):
        assert step['loss_kd'] == pytest.approx(constant['loss_kd'] * weight / 0.5, rel=1e-5)
        assert step['loss_ce'] == constant['loss_ce'] and set(step) == {'loss', 'loss_ce', 'loss_kd'}
        assert_close(step['loss'], step['loss_ce'] + step['loss_kd'], rtol=1e-5, atol=1e-6)


def test_cross_entropy_grows_as_complement(scheduled):
    log = WeightLog()
    runner = train(scheduled(dict(LATER, mode='cosine', ce_end_value=1.0), images=64), log)
    share = [0.0] * 4 + [(1 - math.cos(math.pi * step / 8)) / 2 for step in range(8)] + [1.0] * 4
    for (ce_weight, kd_weight), part in zip(log.weights, share):
        assert (ce_weight, kd_weight) == pytest.approx((0.25 + 0.75 * part, 0.5 - 0.5 * part), abs=1e-12)
    assert log.weights[-1] == (1.0, 0.0) and runner.model.stopped
    assert [set(step) for epoch, step in log.steps if epoch == 4] == [{'loss'}] * 4  # the student's own loss


def test_warm_up(scheduled, teaching):
    """DKD's: the config says the weight that is reached, the hook where it begins. It is that of a run whose
    ``kd_weight`` is 0, and the teacher is not called while it is."""
    hook, logs = dict(ANNEAL, end_value=0.5), [WeightLog(), WeightLog()]
    runner = train(scheduled(dict(hook, start_value=0.0), epochs=3, images=64), logs[0])
    assert [kd_weight for _, kd_weight in logs[0].weights] == [step / 16 for step in range(8)] + [0.5] * 4
    assert teaching == [[3]] * 11 and not runner.model.stopped
    other = train(scheduled(hook, epochs=3, images=64, distill=dict(kd_weight=0.0)), logs[1])
    assert logs[1].weights == logs[0].weights
    assert_same_weights(runner.model.state_dict(), other.model.state_dict())


def test_resumed(scheduled, tmp_path):
    """At the end of an epoch and inside one; past the end the teacher may be gone."""

    def config():
        made = scheduled(LATER, images=32)
        made.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=1)
        return made

    log = WeightLog()
    whole = train(config(), log)
    for iteration in (2, 5, 7):
        part, broken = WeightLog(), killed(config(), iteration)
        if iteration == 7:
            for file in (tmp_path / 'teacher' / 'snapshots').iterdir():
                file.unlink()
        runner = train(broken, part)
        assert part.weights == log.weights[iteration:]
        assert_same_weights(runner.model.state_dict(), whole.model.state_dict())


def test_kd_weight_0_and_annealed_to_0_is_plain_training(scheduled, digits_run, tmp_path):
    log, plain = StepLog(), StepLog()
    runner = train(scheduled(dict(ANNEAL, end=1), epochs=2, distill=dict(kd_weight=0.0, ce_weight=1.0)), log)
    config = digits_run(epochs=2, images=16, work_dir=tmp_path / 'plain')
    assert_same_weights(runner.model.state_dict(), train(config, plain).model.state_dict())
    assert log.steps == plain.steps


@pytest.mark.parametrize('settings, message', [
    (dict(begin=2), 'begin=2 should be before end=2'), (dict(begin=3), 'begin=3 should be before end=2'),
    (dict(begin=-1), 'begin=-1 should be a whole number of epochs, at least 0'),
    (dict(end=1.5), r'end=1\.5 should be a whole number'), (dict(end=True), 'end=True should be a whole'),
    (dict(mode='step'), r"mode='step' should be one of \('linear', 'cosine'\)"),
    (dict(end_value=-1), 'end_value=-1 should be a finite number, at least 0'),
    (dict(ce_end_value='1'), "ce_end_value='1' should be a finite number"),
    (dict(start_value=-1), 'start_value=-1 should be a finite number, at least 0'),
    (dict(start_value=0), 'start_value and end_value are both 0, so no teacher would ever teach')])
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=f'AnnealDistillationHook: {message}'):
        AnnealDistillationHook(**dict(dict(begin=0, end=2), **settings))
