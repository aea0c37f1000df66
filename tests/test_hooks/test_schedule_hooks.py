"""When, how strongly and from whom a student learns: each schedule as its truth table, and resumed as if
never interrupted."""

import gc
import itertools
import json
import math
import weakref
from pathlib import Path

import pytest
import torch
from mmengine.runner import EpochBasedTrainLoop
from torch.testing import assert_close

from ckd_mm.errors import ConfigError, SnapshotError
from ckd_mm.hooks import (
    AnnealDistillationHook,
    ProgressiveTeacherHook,
    StopDistillationHook,
    StopWhenOvertakenHook,
    build_schedule,
    check_schedules,
)
from ckd_mm.hooks.anneal_distillation_hook import annealed
from ckd_mm.registry import MODELS
from ckd_mm.students import CheckpointDistill
from ckd_mm.teachers import SnapshotEnsemble

from ..conftest import resnet
from ..helpers import StepLog, assert_same_weights, network, train, trajectory, weights_of, with_statistics

HELD_OUT = dict(type='ckd_mm.Digits', split='test', indices=40, pipeline=[dict(type='PackInputs')])
RUN = itertools.count()


@pytest.fixture
def scheduled(digits_run, tmp_path):
    """Makes the config of a run of 4 iterations an epoch, whose teachers are the snapshots 1, 2 and 3 of a
    trajectory."""

    def make(*schedule, teachers=(3, ), epochs=4, distill=None, statistics=None, **settings):
        if not (tmp_path / 'teacher').exists():
            trajectory(tmp_path / 'teacher', model=with_statistics(resnet(2), **(statistics or {})))
        settings.setdefault('work_dir', tmp_path / f'run_{next(RUN)}')
        config = digits_run(epochs=epochs, **settings)
        snapshots = [dict(trajectory=str(tmp_path / 'teacher'), epoch=epoch) for epoch in teachers]
        config.model = dict(
            dict(type='ckd_mm.CheckpointDistill', student=resnet(), ce_weight=0.25, kd_weight=0.5,
                 cohort=dict(type='ckd_mm.SnapshotEnsemble', snapshots=snapshots)), **(distill or {}))
        config.custom_hooks = [dict(item) for item in schedule] + [dict(type='ckd_mm.StageStateHook')]
        config.train_cfg = dict(type='ckd_mm.ResumableEpochLoop', max_epochs=epochs, val_interval=100)
        return config

    return make


class Killed(BaseException):
    """Stands for a kill; nothing catches it."""


def resumed(config, monkeypatch, epoch, batch=0):
    """The run of ``config``, killed before a batch of the epoch after ``epoch`` finished ones and resumed
    from its last checkpoint."""
    run_iter = EpochBasedTrainLoop.run_iter

    def dying(loop, idx, data_batch):
        if (loop.epoch, idx) == (epoch, batch):
            raise Killed
        run_iter(loop, idx, data_batch)

    with monkeypatch.context() as patch:
        patch.setattr(EpochBasedTrainLoop, 'run_iter', dying)
        with pytest.raises(Killed):
            train(config)
    config.resume = True
    return config


class Teaching:
    """Which snapshots (their epochs) taught in each step, and which were ever built."""

    def __init__(self, patch):
        self.steps, self.built = [], []
        logits, init = SnapshotEnsemble.member_logits, SnapshotEnsemble.__init__

        def counted(cohort, inputs):
            self.steps.append([snapshot.epoch for snapshot in cohort.snapshots])
            return logits(cohort, inputs)

        def building(cohort, *args, **kwargs):
            init(cohort, *args, **kwargs)
            self.built.append([snapshot.epoch for snapshot in cohort.snapshots])

        patch.setattr(SnapshotEnsemble, 'member_logits', counted)
        patch.setattr(SnapshotEnsemble, '__init__', building)


@pytest.fixture
def teaching(monkeypatch):
    return Teaching(monkeypatch)


class WeightLog(StepLog):
    """Also the weights that each step had."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        model = runner.model
        self.weights.append((model.ce_weight_after_stop, 0.0) if model.stopped else (model.ce_weight,
                                                                                     model.kd_weight))


def rows(runner) -> list:
    """What was logged of training, a row an iteration."""
    files = sorted(Path(runner.work_dir).glob('*/vis_data/scalars.json'))
    return [row for file in files for row in map(json.loads, file.read_text().splitlines()) if 'loss' in row]


# ---------------------------------------------------------------- annealed weight
@pytest.mark.parametrize('mode, part, expected', [('linear', -1.0, 0.8), ('linear', 0.0, 0.8),
                                                  ('linear', 0.25, 0.65), ('linear', 0.5, 0.5),
                                                  ('linear', 1.0, 0.2), ('linear', 7.0, 0.2),
                                                  ('cosine', -1.0, 0.8), ('cosine', 0.0, 0.8),
                                                  ('cosine', 1 / 3, 0.65), ('cosine', 0.5, 0.5),
                                                  ('cosine', 0.75, 0.5 - 0.3 * math.sqrt(0.5)),
                                                  ('cosine', 1.0, 0.2), ('cosine', 7.0, 0.2)])
def test_annealed(mode, part, expected):
    """From 0.8 to 0.2; cos(60 degrees) is a half, so a third of the way of the cosine is a quarter of the
    change."""
    assert annealed(0.8, 0.2, part, mode) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('mode', ['linear', 'cosine'])
def test_annealed_is_exact_at_both_ends(mode):
    assert (annealed(0.9, 0.3, 0.0, mode), annealed(0.9, 0.3, 1.0, mode), annealed(0.7, 0.0, 1.0,
                                                                                   mode)) == (0.9, 0.3, 0.0)


ANNEAL = dict(type='ckd_mm.AnnealDistillationHook', begin=1, end=3)
HALVES = [0.5] * 4 + [0.5 - 0.0625 * step for step in range(8)] + [0.0] * 4


def test_anneal_truth_table(scheduled, teaching):
    """Four iterations an epoch: constant for one epoch, down for two, then no teacher."""
    log = WeightLog()
    config = scheduled(ANNEAL)
    config.default_hooks.logger.interval = 1
    runner = train(config, log)
    assert log.weights == [(0.25, weight) for weight in HALVES]
    assert teaching.steps == [[3]] * 12
    assert runner.model.stopped and runner.model.cohort is None
    written = rows(runner)
    assert [row['kd_weight'] for row in written] == HALVES
    assert [set(row) & {'loss_ce', 'loss_kd'}
            for row in written] == [{'loss_ce', 'loss_kd'}] * 12 + [{'loss_ce'}] * 4


def test_the_annealed_weight_weighs_the_loss(scheduled):
    """With frozen networks each epoch's KD terms are those of an unscheduled run times weight / 0.5."""
    logs = []
    for schedule in ((dict(ANNEAL, end_value=0.25), ), ()):
        logs.append(StepLog())
        train(
            scheduled(*schedule, epochs=3,
                      optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0, momentum=0.0))), logs[-1])
    weights = [0.5] * 4 + [0.5 - 0.25 * step / 8 for step in range(8)]
    for weight, (_, step), (_, constant) in zip(weights, logs[0].steps, logs[1].steps):
        assert step['loss_kd'] == pytest.approx(constant['loss_kd'] * weight / 0.5, rel=1e-5)
        assert step['loss_ce'] == constant['loss_ce']


def test_cross_entropy_grows_as_complement(scheduled):
    log = WeightLog()
    runner = train(scheduled(dict(ANNEAL, mode='cosine', ce_end_value=1.0)), log)
    share = [0.0] * 4 + [(1 - math.cos(math.pi * step / 8)) / 2 for step in range(8)] + [1.0] * 4
    for (ce_weight, kd_weight), part in zip(log.weights, share):
        assert (ce_weight, kd_weight) == pytest.approx((0.25 + 0.75 * part, 0.5 - 0.5 * part), abs=1e-12)
    assert log.weights[-1] == (1.0, 0.0) and runner.model.stopped
    assert [set(step) for epoch, step in log.steps
            if epoch == 4] == [{'loss'}] * 4  # weight 1: the student's own loss


def test_anneal_up_from_nothing(scheduled, teaching):
    log = WeightLog()
    runner = train(scheduled(dict(ANNEAL, end=2, end_value=1.0), epochs=3, distill=dict(kd_weight=0.0)), log)
    assert [kd_weight for _, kd_weight in log.weights] == [0.0] * 4 + [0.0, 0.25, 0.5, 0.75] + [1.0] * 4
    assert teaching.steps == [[3]] * 7 and not runner.model.stopped


def test_warm_up_is_that_of_an_unweighted_start(scheduled, teaching):
    """DKD's: the config says the weight that is reached, the hook where it begins."""
    logs = [WeightLog(), WeightLog()]
    hook = dict(ANNEAL, begin=0, end=2, end_value=0.5)
    runner = train(scheduled(dict(hook, start_value=0.0), epochs=3), logs[0])
    assert [kd_weight for _, kd_weight in logs[0].weights] == [step / 16 for step in range(8)] + [0.5] * 4
    assert teaching.steps == [[3]] * 11 and not runner.model.stopped
    other = train(scheduled(hook, epochs=3, distill=dict(kd_weight=0.0)), logs[1])
    assert logs[1].weights == logs[0].weights
    assert_same_weights(runner.model.state_dict(), other.model.state_dict())


@pytest.mark.parametrize('epoch, batch', [(1, 0), (2, 3), (3, 2)])
def test_anneal_resumed(scheduled, tmp_path, monkeypatch, epoch, batch):
    """Inside an epoch and between two; past the end the teacher may be gone."""
    logs = [WeightLog(), WeightLog()]
    config = scheduled(ANNEAL)
    config.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=1)
    whole = train(config, logs[0])
    broken = scheduled(ANNEAL)
    broken.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=1)
    resumed(broken, monkeypatch, epoch, batch)
    if epoch == 3:
        for file in (tmp_path / 'teacher' / 'snapshots').iterdir():
            file.unlink()
    runner = train(broken, logs[1])
    assert logs[1].weights == logs[0].weights[4 * epoch + batch:]
    assert_same_weights(runner.model.state_dict(), whole.model.state_dict())


def test_kd_weight_0_and_annealed_to_0_is_plain_training(scheduled, digits_run, tmp_path):
    log, plain = StepLog(), StepLog()
    hook = dict(type='ckd_mm.AnnealDistillationHook', begin=0, end=1)
    runner = train(scheduled(hook, epochs=2, distill=dict(kd_weight=0.0, ce_weight=1.0)), log)
    config = digits_run(epochs=2, work_dir=tmp_path / 'plain')
    assert_same_weights(runner.model.state_dict(), train(config, plain).model.state_dict())
    assert log.steps == plain.steps


# ---------------------------------------------------------------- one teacher after another
def progressive(**settings):
    return dict(type='ckd_mm.ProgressiveTeacherHook', **settings)


@pytest.mark.parametrize('starts, epochs, teachers, expected', [
    (None, 3, (1, 2, 3), [1, 2, 3]), (None, 4, (1, 3), [1, 1, 3, 3]), (None, 4, (1, 2, 3), [1, 2, 2, 3]),
    ([0, 1, 3], 4, (1, 2, 3), [1, 2, 2, 3]), ([0, 3], 4, (3, 2), [3, 3, 3, 2])])
def test_progressive_truth_table(scheduled, teaching, starts, epochs, teachers, expected):
    runner = train(scheduled(progressive(starts=starts), epochs=epochs, teachers=teachers))
    assert teaching.steps == [[epoch] for epoch in expected for _ in range(4)]
    assert teaching.built == [[epoch] for epoch in dict.fromkeys(expected)]
    assert [snapshot.epoch for snapshot in runner.model.cohort.snapshots] == [expected[-1]]


def test_progressive_is_spread_over_the_epochs_with_distillation(scheduled, teaching):
    train(scheduled(progressive(), dict(type='ckd_mm.StopDistillationHook', stop_epoch=3),
                    teachers=(1, 2, 3)))
    assert teaching.steps == [[epoch] for epoch in (1, 2, 3) for _ in range(4)]


def test_each_teacher_teaches_as_if_it_were_alone(scheduled):
    """Frozen student, teachers whose input statistics differ from the student's: the loss of each epoch is
    that of a run with this teacher."""
    still = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0, momentum=0.0)), epochs=3,
                 statistics=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True))
    log = StepLog()
    train(scheduled(progressive(), teachers=(1, 2, 3), **still), log)
    for teacher in (1, 2, 3):
        alone = StepLog()
        train(scheduled(teachers=(teacher, ), **still), alone)
        assert [step for epoch, step in log.steps
                if epoch == teacher] == [step for epoch, step in alone.steps if epoch == teacher]


@pytest.mark.parametrize('epoch', [1, 2])
def test_progressive_resumed_loads_the_teacher_of_its_epoch_and_no_other(scheduled, tmp_path, monkeypatch,
                                                                         epoch):
    whole = train(scheduled(progressive(), teachers=(1, 2, 3), epochs=3))
    config = resumed(scheduled(progressive(), teachers=(1, 2, 3), epochs=3), monkeypatch, epoch)
    for past in range(1, epoch + 1):
        (tmp_path / 'teacher' / 'snapshots' / f'epoch_{past}.pth').unlink()
    teaching = Teaching(monkeypatch)
    runner = train(config)
    assert teaching.built == [[later] for later in range(epoch + 1, 4)]
    assert teaching.steps == [[later] for later in range(epoch + 1, 4) for _ in range(4)]
    assert_same_weights(runner.model.state_dict(), whole.model.state_dict())


def test_replaced_teachers_are_released(scheduled):
    model = MODELS.build(scheduled(teachers=(1, 2)).model)
    old, weight = weakref.ref(model.cohort), weakref.ref(next(model.cohort.parameters()))
    model.replace_cohort(dict(model.cohort_config, snapshots=model.cohort_config['snapshots'][:1]))
    gc.collect()
    assert old() is None and weight() is None
    assert isinstance(model.outside.cohort, dict)  # the new one is not built yet
    assert_same_weights(model.cohort.networks[0].state_dict(),
                        network(with_statistics(resnet(2)), 1).state_dict())
    assert len(model.cohort_config['snapshots']) == 2
    model.stop_distillation()
    with pytest.raises(RuntimeError, match='distillation has stopped: no teacher may follow'):
        model.replace_cohort(model.cohort_config)


def test_mmrazors_recorders_follow_the_teacher(scheduled):
    recorder = dict(type='ModuleOutputs', source='backbone.layer1.1.conv2')
    distiller = dict(
        type='ConfigurableDistiller', _scope_='mmrazor', student_recorders=dict(feature=recorder),
        teacher_recorders=dict(feature=dict(recorder, source='networks.0.backbone.layer1.1.conv2')),
        distill_losses=dict(loss_feature=dict(type='L2Loss', normalize=False, loss_weight=0.01)),
        loss_forward_mappings=dict(loss_feature=dict(s_feature=dict(recorder='feature', from_student=True),
                                                     t_feature=dict(recorder='feature', from_student=False))))
    still = dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0, momentum=0.0)), epochs=2,
                 distill=dict(distiller=distiller))
    logs = [StepLog(), StepLog()]
    train(scheduled(progressive(), teachers=(1, 3), **still), logs[0])
    train(scheduled(teachers=(3, ), **still), logs[1])
    assert logs[0].steps[:4] != logs[1].steps[:4] and logs[0].steps[4:] == logs[1].steps[4:]


# ---------------------------------------------------------------- until the student overtakes
def overtaken(**settings):
    return dict(type='ckd_mm.StopWhenOvertakenHook', dataset=HELD_OUT, **settings)


@pytest.fixture
def accuracies(monkeypatch):
    """Puts these accuracies in place of the measured ones; says how often either was asked for."""

    def put(teacher, *student):
        asked = dict(teacher=0, student=0)

        def look_up(hook, preprocessor, network, logits_of):
            who = 'teacher' if isinstance(network, SnapshotEnsemble) else 'student'
            asked[who] += 1
            return teacher if who == 'teacher' else student[asked['student'] - 1]

        monkeypatch.setattr(StopWhenOvertakenHook, '_accuracy', look_up)
        return asked

    return put


@pytest.mark.parametrize('settings, student, distilled', [
    (dict(), [40, 60], 2),
    (dict(), [40, 50, 50, 50], 4),                       # level is not ahead
    (dict(), [60], 1),
    (dict(margin=5.0), [40, 55, 55.5], 3),
    (dict(patience=2), [60, 40, 60, 60], 4),             # in a row
    (dict(patience=2), [60, 60], 2),
    (dict(interval=2), [60], 2),                         # looks after epochs 2 and 4 only
    (dict(interval=2), [40, 60], 4),
    (dict(interval=3), [40], 4),
])
def test_overtaken_truth_table(scheduled, accuracies, teaching, settings, student, distilled):
    """A teacher of 50 %, what the student has at each look, and for how many of four epochs it is
    distilled."""
    asked = accuracies(50, *student)
    log = StepLog()
    runner = train(scheduled(overtaken(**settings)), log)
    kept = [set(step) for _, step in log.steps]
    assert kept == [{'loss', 'loss_ce', 'loss_kd'}] * (4 * distilled) + [{'loss'}] * (16 - 4 * distilled)
    assert teaching.steps == [[3]] * 4 * distilled
    assert asked == dict(teacher=1, student=len(student))
    stopped_after = distilled if runner.model.stopped else 5
    for epoch in (3, 4):
        checkpoint = torch.load(Path(runner.work_dir) / f'epoch_{epoch}.pth', weights_only=False)
        assert checkpoint['ckd_mm_overtaken']['overtaken'] == (epoch >= stopped_after)


@pytest.mark.parametrize('warm_up_first', [True, False])
def test_overtaken_during_a_warm_up(scheduled, accuracies, teaching, warm_up_first):
    """A weight that rises from 0: there is nothing to distil in the first step, but a teacher to be compared
    with after the epoch."""
    asked = accuracies(50, 40, 60)
    schedule = [
        dict(type='ckd_mm.AnnealDistillationHook', begin=0, end=2, start_value=0.0, end_value=0.5),
        overtaken()
    ]
    runner = train(scheduled(*(schedule if warm_up_first else schedule[::-1])))
    assert teaching.steps == [[3]] * 7 and runner.model.stopped
    assert asked == dict(teacher=1, student=2)


def test_both_are_evaluated_rightly(scheduled, tmp_path):
    """Against the networks themselves on raw digits; two teachers are heard as their mean; statistics of
    their own."""
    from sklearn.datasets import load_digits
    hook = StopWhenOvertakenHook(HELD_OUT, num_images=25, seed=4)
    looks = []
    measure = hook._accuracy
    hook._accuracy = lambda *args: looks.append(measure(*args)) or looks[-1]
    runner = train(scheduled(epochs=1, teachers=(1, 3), statistics=dict(mean=[20.0] * 3, std=[200.0] * 3)),
                   hook)

    chosen = torch.randperm(40, generator=torch.Generator().manual_seed(4))[:25]
    digits = load_digits()
    raw = torch.from_numpy(digits.images[1297:1337])[chosen].mul(255 / 16).round().float()[:, None].expand(
        -1, 3, -1, -1)
    labels = torch.from_numpy(digits.target[1297:1337])[chosen]
    with torch.no_grad():
        teachers = [
            network(with_statistics(resnet(2)), epoch)((raw - 20) / 200, mode='tensor').softmax(1)
            for epoch in (1, 3)
        ]
        student = runner.model.student.eval()((raw - 77.9) / 95.9, mode='tensor')
    expected = [
        100 * (guess.argmax(1) == labels).double().mean().item() for guess in (sum(teachers), student)
    ]
    assert looks == pytest.approx(expected)
    assert hook.teacher == looks[0]


def test_a_look_does_not_disturb_training(scheduled):
    """A run that is never stopped is, bit for bit, the run without the hook, though the network drops at
    random."""
    settings = dict(distill=dict(student=resnet(1, drop_path_rate=0.3)), epochs=2)
    weights = [
        train(scheduled(*schedule, **settings)).model.state_dict()
        for schedule in ((overtaken(margin=100.0), ), ())
    ]
    assert_same_weights(*weights)


def test_averaged_weights_are_what_is_compared(scheduled):
    config = scheduled(overtaken(margin=100.0), epochs=1)
    config.custom_hooks = [dict(type='EMAHook', momentum=0.01), *config.custom_hooks]
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopWhenOvertakenHook, '_accuracy',
                      lambda hook, preprocessor, network, logits_of: seen.append(network) or 0.0)
        runner = train(config)
    averaged = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook').ema_model.module
    assert seen[1] is averaged.student and seen[1] is not runner.model.student


@pytest.mark.parametrize('patience, student, epoch', [(1, [60], 2), (2, [40, 60, 60], 2),
                                                      (2, [60, 40, 60, 60], 1), (2, [40, 60, 60], 3)])
def test_overtaken_resumed(scheduled, accuracies, tmp_path, monkeypatch, patience, student, epoch):
    """The decision, the count of wins and the teacher's accuracy travel in the checkpoint: a second part of
    the run evaluates no teacher, and past the stop loads none."""
    logs = [StepLog(), StepLog()]
    accuracies(50, *student)
    whole = train(scheduled(overtaken(patience=patience)), logs[0])
    accuracies(50, *student)
    config = resumed(scheduled(overtaken(patience=patience)), monkeypatch, epoch)
    asked = accuracies(50, *student[epoch:])
    if epoch >= len(student):
        for file in (tmp_path / 'teacher' / 'snapshots').iterdir():
            file.unlink()
        (tmp_path / 'teacher' / 'trajectory.json').unlink()
    runner = train(config, logs[1])
    assert asked == dict(teacher=0, student=len(student[epoch:]))
    assert logs[1].steps == logs[0].steps[4 * epoch:]
    assert_same_weights(runner.model.state_dict(), whole.model.state_dict())


def test_the_state_of_another_run_is_not_taken_over(scheduled, accuracies):
    accuracies(50, 60)
    first = train(scheduled(overtaken(), epochs=1))
    asked = accuracies(50, 60)
    train(scheduled(overtaken(), epochs=1, load_from=str(Path(first.work_dir) / 'epoch_1.pth')))
    assert asked == dict(teacher=1, student=1)


# ---------------------------------------------------------------- until an epoch, and in general
def test_the_log_shows_the_weight(scheduled):
    config = scheduled(dict(type='ckd_mm.StopDistillationHook', stop_epoch=1), epochs=2)
    config.default_hooks.logger.interval = 1
    assert [row['kd_weight'] for row in rows(train(config))] == [0.5] * 4 + [0.0] * 4


def test_a_checkpoint_says_whether_a_teacher_is_needed():
    def is_over(hook, epoch, **state):
        return hook.is_over(dict(meta=dict(epoch=epoch), **state))

    for hook, stop in ((StopDistillationHook(3), 3), (AnnealDistillationHook(1, 3), 3)):
        assert [is_over(hook, epoch) for epoch in (2, 3, 4)] == [epoch >= stop for epoch in (2, 3, 4)]
    for hook in (AnnealDistillationHook(
            1, 3, end_value=0.1), ProgressiveTeacherHook(), StopWhenOvertakenHook(HELD_OUT)):
        assert not is_over(hook, 9)
    state = dict(teacher=50.0, wins=1)
    assert is_over(StopWhenOvertakenHook(HELD_OUT), 1, ckd_mm_overtaken=dict(state, overtaken=True))
    assert not is_over(StopWhenOvertakenHook(HELD_OUT), 1, ckd_mm_overtaken=dict(state, overtaken=False))


STOP, ANNEALED = dict(type='ckd_mm.StopDistillationHook', stop_epoch=2), dict(
    type='ckd_mm.AnnealDistillationHook', begin=0, end=2)


@pytest.mark.parametrize('schedule, message', [
    ([STOP, STOP], 'StopDistillationHook is there 2 times; keep one'),
    ([STOP, ANNEALED], 'StopDistillationHook and AnnealDistillationHook would each stop distillation; keep '
                       'one'),
    ([STOP, overtaken()], 'StopDistillationHook and StopWhenOvertakenHook would each stop'),
    ([progressive(), overtaken()], 'StopWhenOvertakenHook compares the student with its teacher, which '
                                   'ProgressiveTeacherHook changes'),
    ([dict(STOP, stop_epoch=5)], 'stop_epoch=5 is never reached: the run has 4 epochs'),
    ([dict(ANNEALED, end=5)], 'end=5 is never reached: the run has 4 epochs'),
    ([overtaken(interval=3, patience=2)], '2 evaluations, one every 3 epochs, never come: the run has 4 '
                                          'epochs'),
    ([progressive(starts=[0, 2, 4])], r'starts=\[0, 2, 4\]: the last teacher would never teach, there are 4 '
                                      r'epochs'),
    ([progressive(starts=[0, 1, 2]), STOP], r'starts=\[0, 1, 2\]: the last teacher would never teach, there '
                                            r'are 2 epochs'),
    ([progressive(starts=[0, 1])], r'starts=\[0, 1\] should be 3 epochs, one for each snapshot'),
    ([progressive(), STOP], '3 snapshots cannot take turns in 2 epochs with distillation'),
])
def test_what_cannot_be_is_said_before_training(scheduled, schedule, message):
    with pytest.raises(ConfigError, match=message):
        check_schedules([build_schedule(item) for item in schedule], 4, 3)
    config = scheduled(*schedule, teachers=(1, 2, 3))
    with pytest.raises(ConfigError, match=message):
        train(config)
    assert not list(Path(config.work_dir).glob('*.pth'))


def test_what_goes_together():
    check_schedules([
        StopDistillationHook(3), AnnealDistillationHook(0, 2, end_value=0.1), ProgressiveTeacherHook([0, 2])
    ], 4, 2)
    assert check_schedules([AnnealDistillationHook(0, 3), ProgressiveTeacherHook()], 4, 3) == 3
    assert check_schedules([StopWhenOvertakenHook(HELD_OUT),
                            AnnealDistillationHook(0, 2, end_value=0.1)], 4) == 4


def test_schedules_that_need_what_the_run_lacks(scheduled, digits_run):
    with pytest.raises(ConfigError, match='one snapshot cannot take turns; let the selector choose several'):
        train(scheduled(progressive()))
    built = SnapshotEnsemble(scheduled(teachers=(1, 2)).model.cohort.snapshots)
    config = scheduled(progressive())
    config.model = CheckpointDistill(with_statistics(resnet()), built)
    with pytest.raises(ConfigError, match='needs a cohort that is given as a config with a list of '
                                          '`snapshots`'):
        train(config)
    with pytest.raises(ConfigError, match=r'end_value=0\.5 needs teachers, but the model has no cohort'):
        train(scheduled(dict(ANNEALED, end_value=0.5), distill=dict(cohort=None, kd_weight=0.0)))
    with pytest.raises(ConfigError, match=r'AnnealDistillationHook needs a ckd_mm\.CheckpointDistill model, '
                                          r'got ImageClassifier'):
        train(digits_run(custom_hooks=[ANNEALED]))
    config = scheduled(ANNEALED)
    config.train_cfg, config.custom_hooks = dict(by_epoch=False, max_iters=4), [ANNEALED]
    with pytest.raises(ConfigError, match='AnnealDistillationHook counts epochs, but train_cfg makes a '
                                          'IterBasedTrainLoop'):
        train(config)


def test_a_missing_teacher_is_named_when_its_turn_comes(scheduled, tmp_path):
    config = scheduled(progressive(), teachers=(1, 2, 3), epochs=3)
    (tmp_path / 'teacher' / 'snapshots' / 'epoch_2.pth').unlink()
    with pytest.raises(SnapshotError, match=r'epoch_2.pth \(epoch 2\) does not exist'):
        train(config)
    assert list(weights_of(Path(config.work_dir) / 'epoch_1.pth'))


@pytest.mark.parametrize('settings, message', [
    (dict(begin=2, end=2), 'begin=2 should be before end=2'),
    (dict(begin=3, end=2), 'begin=3 should be before end=2'),
    (dict(begin=-1, end=2), 'begin=-1 should be a whole number of epochs, at least 0'),
    (dict(begin=0, end=1.5), r'end=1\.5 should be a whole number'),
    (dict(begin=0, end=True), 'end=True should be a whole number'),
    (dict(begin=0, end=2, mode='step'), r"mode='step' should be one of \('linear', 'cosine'\)"),
    (dict(begin=0, end=2, end_value=-1), 'end_value=-1 should be a finite number, at least 0'),
    (dict(begin=0, end=2, ce_end_value='1'), "ce_end_value='1' should be a finite number"),
    (dict(begin=0, end=2, start_value=-1), 'start_value=-1 should be a finite number, at least 0'),
    (dict(begin=0, end=2, start_value=0), 'start_value and end_value are both 0, so no teacher would ever '
                                          'teach'),
])
def test_bad_anneal_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=f'AnnealDistillationHook: {message}'):
        AnnealDistillationHook(**settings)


@pytest.mark.parametrize('settings, message',
                         [(dict(interval=0), 'interval=0 should be a whole number, at least 1'),
                          (dict(patience=1.5), r'patience=1\.5'), (dict(num_images=0), 'num_images=0'),
                          (dict(margin=-1), 'margin=-1 should be a finite number, at least 0'),
                          (dict(margin=None), 'margin=None')])
def test_bad_overtaken_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=f'StopWhenOvertakenHook: {message}'):
        StopWhenOvertakenHook(HELD_OUT, **settings)


@pytest.mark.parametrize('starts', [[], [1, 2], [0, 2, 2], [0, 2, 1], [0, 1.5], 3, 'even', [0, True]])
def test_bad_starts_are_named(starts):
    with pytest.raises(ConfigError, match='should be rising epochs of the student, the first 0'):
        ProgressiveTeacherHook(starts)


def test_schedules_go_by_their_registered_names():
    assert isinstance(build_schedule(dict(type='ckd_mm.ProgressiveTeacherHook', starts=[0, 2])),
                      ProgressiveTeacherHook)
    known = ', '.join(f'ckd_mm.{name}Hook' for name in ('AnnealDistillation', 'ProgressiveTeacher',
                                                        'StopDistillation', 'StopWhenOvertaken'))
    for wrong in ('anneal', 'ckd_mm.SnapshotHook', None):
        with pytest.raises(ConfigError) as caught:
            build_schedule(dict(type=wrong))
        assert str(caught.value) == f'distill.schedule: type={wrong!r} should be one of {known}'
    with pytest.raises(ConfigError, match="type='late' should be one of"):
        build_schedule('late')
    with pytest.raises(ConfigError, match="AnnealDistillationHook does not take these settings: .*'start'"):
        build_schedule(dict(type='ckd_mm.AnnealDistillationHook', start=1))


def test_the_weight_is_a_float_in_the_loss_dict_of_no_one(scheduled):
    """`kd_weight` is logged beside the losses, not among them: a key with 'loss' would be added to the
    total."""
    log = StepLog()
    train(scheduled(dict(ANNEALED, end_value=0.25), epochs=2), log)
    for _, step in log.steps:
        assert set(step) == {'loss', 'loss_ce', 'loss_kd'}
        assert_close(step['loss'], step['loss_ce'] + step['loss_kd'], rtol=1e-5, atol=1e-6)
