"""Until the student overtakes: the truth table, what is compared, and resumed as if never interrupted."""

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from ckd_mm.errors import ConfigError
from ckd_mm.hooks import StopWhenOvertakenHook
from ckd_mm.teachers import SnapshotEnsemble
from ckd_mm.training import averaged_weights

from ..conftest import resnet
from ..helpers import StepLog, assert_same_weights, network, train, with_statistics
from .conftest import ANNEAL, HELD_OUT, OVERTAKEN, killed

MEASURE = 'ckd_mm.hooks.stop_when_overtaken_hook.top1_accuracy'


@pytest.fixture
def accuracies(monkeypatch):
    """Puts these accuracies in place of the measured ones; counts the evaluations of either."""

    def put(teacher, *student):
        calls = dict(teacher=0, student=0)

        def look_up(loader, preprocessor, network, **options):
            role = 'teacher' if isinstance(network, SnapshotEnsemble) else 'student'
            calls[role] += 1
            return teacher if role == 'teacher' else student[calls['student'] - 1]

        monkeypatch.setattr(MEASURE, look_up)
        return calls

    return put


@pytest.mark.parametrize('settings, student, distilled', [
    (dict(), [40, 60], 2),
    (dict(), [40, 50, 50, 50], 4),                       # level is not ahead
    (dict(), [60], 1),
    (dict(margin=5.0), [40, 55, 55.5], 3),
    (dict(patience=2), [60, 40, 60, 60], 4),             # in a row
    (dict(patience=2), [60, 60], 2),
    (dict(interval=2), [60], 2),                         # evaluated after epochs 2 and 4 only
    (dict(interval=2), [40, 60], 4),
    (dict(interval=3), [40], 4),
])
def test_truth_table(scheduled, accuracies, teaching, settings, student, distilled):
    """A teacher of 50 %, the student's accuracies, and for how many of four epochs it is distilled."""
    calls, log = accuracies(50, *student), StepLog()
    runner = train(scheduled(dict(OVERTAKEN, **settings)), log)
    terms = [set(step) for _, step in log.steps]
    assert terms == [{'loss', 'loss_ce', 'loss_kd'}] * distilled + [{'loss'}] * (4 - distilled)
    assert teaching == [[3]] * distilled
    assert calls == dict(teacher=1, student=len(student))
    stopped_after = distilled if runner.model.stopped else 5
    for epoch in (3, 4):
        checkpoint = torch.load(Path(runner.work_dir) / f'epoch_{epoch}.pth', weights_only=False)
        assert checkpoint['ckd_mm_overtaken']['overtaken'] == (epoch >= stopped_after)


@pytest.mark.parametrize('warm_up_first', [True, False])
def test_during_a_warm_up(scheduled, accuracies, teaching, warm_up_first):
    """With a weight that rises from 0 there is nothing to distil in the first step."""
    calls = accuracies(50, 40, 60)
    schedule = [dict(ANNEAL, start_value=0.0, end_value=0.5), OVERTAKEN]
    runner = train(scheduled(*(schedule if warm_up_first else schedule[::-1]), images=64))
    assert teaching == [[3]] * 7 and runner.model.stopped
    assert calls == dict(teacher=1, student=2)


def test_both_are_evaluated_rightly(scheduled):
    """Against the networks themselves on raw digits; two teachers predict by their mean; statistics of their
    own."""
    hook = StopWhenOvertakenHook(HELD_OUT, num_images=25, seed=4)
    config = scheduled(epochs=1, teachers=(1, 3), statistics=dict(mean=[20.0] * 3, std=[200.0] * 3))
    runner = train(config, hook)
    chosen = torch.randperm(40, generator=torch.Generator().manual_seed(4))[:25]
    digits = load_digits()
    raw = torch.from_numpy(digits.images[1297:1337])[chosen].mul(255 / 16).round().float()[:, None].expand(
        -1, 3, -1, -1)
    labels = torch.from_numpy(digits.target[1297:1337])[chosen]
    with torch.no_grad():
        teachers = [network(with_statistics(resnet(2)), epoch)((raw - 20) / 200, mode='tensor').softmax(1)
                    for epoch in (1, 3)]
        student = runner.model.student.eval()((raw - 77.9) / 95.9, mode='tensor')
    teacher, student = (100 * (guess.argmax(1) == labels).double().mean().item()
                        for guess in (sum(teachers), student))
    assert hook.teacher == pytest.approx(teacher)
    log = next(Path(runner.work_dir).glob('*/*.log')).read_text()
    assert f'student {student:.2f} %, teacher {teacher:.2f} %' in log


def test_an_evaluation_does_not_disturb_training(scheduled):
    """A run that is never stopped is, bit for bit, the run without the hook, though the network drops at
    random."""
    settings = dict(distill=dict(student=resnet(1, drop_path_rate=0.3)), epochs=2, images=64)
    weights = [train(scheduled(*schedule, **settings)).model.state_dict()
               for schedule in ([dict(OVERTAKEN, margin=100.0)], [])]
    assert_same_weights(*weights)


def test_averaged_weights_are_what_is_compared(scheduled, monkeypatch):
    config = scheduled(dict(OVERTAKEN, margin=100.0), epochs=1)
    config.custom_hooks = [dict(type='EMAHook', momentum=0.01), *config.custom_hooks]
    networks = []
    monkeypatch.setattr(MEASURE, lambda loader, preprocessor, network, **_: networks.append(network) or 0.0)
    runner = train(config)
    assert networks[1] is averaged_weights(runner).student and networks[1] is not runner.model.student


@pytest.mark.parametrize('patience, student, epoch', [(1, [60], 2), (2, [40, 60, 60], 2),
                                                      (2, [60, 40, 60, 60], 1)])
def test_resumed(scheduled, accuracies, tmp_path, patience, student, epoch):
    """The decision, the count of wins and the teacher's accuracy travel in the checkpoint: a second part of
    the run evaluates no teacher, and past the stop loads none."""
    logs = [StepLog(), StepLog()]
    accuracies(50, *student)
    whole = train(scheduled(dict(OVERTAKEN, patience=patience)), logs[0])
    accuracies(50, *student)
    config = killed(scheduled(dict(OVERTAKEN, patience=patience)), epoch + 1)
    calls = accuracies(50, *student[epoch:])
    if epoch >= len(student):
        (tmp_path / 'teacher').rename(tmp_path / 'away')
    runner = train(config, logs[1])
    assert calls == dict(teacher=0, student=len(student[epoch:]))
    assert logs[1].steps == logs[0].steps[epoch:]
    assert_same_weights(runner.model.state_dict(), whole.model.state_dict())


def test_the_state_of_another_run_is_not_taken_over(scheduled, accuracies):
    accuracies(50, 60)
    first = train(scheduled(OVERTAKEN, epochs=1))
    calls = accuracies(50, 60)
    train(scheduled(OVERTAKEN, epochs=1, load_from=str(Path(first.work_dir) / 'epoch_1.pth')))
    assert calls == dict(teacher=1, student=1)


@pytest.mark.parametrize('settings, message', [
    (dict(interval=0), 'interval=0 should be a whole number, at least 1'),
    (dict(patience=1.5), r'patience=1\.5'), (dict(num_images=0), 'num_images=0'),
    (dict(margin=-1), 'margin=-1 should be a finite number, at least 0'), (dict(margin=None), 'margin=None')])
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=f'StopWhenOvertakenHook: {message}'):
        StopWhenOvertakenHook(HELD_OUT, **settings)
