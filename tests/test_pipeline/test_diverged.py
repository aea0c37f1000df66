"""Trainings whose numbers stop being finite: what they leave, and how they go on."""

import copy
import math
from pathlib import Path

import pytest
import torch
from mmengine.dist import get_rank
from mmengine.registry import RUNNERS

from ckd_mm.errors import ConfigError, DivergedError, NotFiniteError
from ckd_mm.hooks.stage_state_hook import KEY
from ckd_mm.losses import SoftTarget
from ckd_mm.pipeline.changes import Changes
from ckd_mm.pipeline.rehearsal_runner import RehearsalRunner
from ckd_mm.pipeline.resumable_loop import ResumableEpochLoop
from ckd_mm.pipeline.stage_runner import StageRunner
from ckd_mm.pipeline.store import read_records
from ckd_mm.targets import TargetFile
from ckd_mm.teachers import SnapshotEnsemble
from ckd_mm.trajectory import Trajectory

from ..helpers import assert_same_weights, in_two_processes, logged, weights_of

LENGTH = 4  # iterations of an epoch
HOOKS = [dict(type='ckd_mm.StageStateHook')]


@pytest.fixture
def diverging(monkeypatch):
    """From the iteration on, counted from 1, a training that keeps its learning rate has a weight of NaN."""

    def plant(stage: str, iteration: int, lr: float, change=lambda runner: _nan(runner)) -> None:
        run_iter = ResumableEpochLoop.run_iter

        def running(loop, idx, data_batch) -> None:
            run_iter(loop, idx, data_batch)
            runner = loop.runner
            if Path(runner.work_dir).name == stage and loop.iter == iteration and not isinstance(
                    runner, RehearsalRunner) and runner.cfg.optim_wrapper.optimizer.lr == lr:
                change(runner)

        monkeypatch.setattr(ResumableEpochLoop, 'run_iter', running)

    return plant


def _nan(runner) -> None:
    next(runner.model.parameters()).data.view(-1)[0] = math.nan


def _infinite_momentum(runner) -> None:
    state = next(iter(runner.optim_wrapper.optimizer.state.values()))
    state['momentum_buffer'].view(-1)[0] = math.inf


def config_of(distil_run, **settings):
    config = distil_run(selector='last', probe=None, **settings)
    config.teacher.train_cfg.max_epochs, config.train_cfg.max_epochs = 3, 4
    config.param_scheduler = [dict(type='MultiStepLR', milestones=[2, 3], gamma=0.5)]
    return config


def rates(work_dir: Path) -> dict[int, float]:
    """The last learning rate that was logged of each epoch."""
    return {row['epoch']: row['lr'] for row in logged(work_dir, 'loss')}


@pytest.mark.parametrize('change, words', [(_nan, 'weight'), (_infinite_momentum, 'momentum_buffer of ')])
def test_a_student_that_diverged_goes_on_with_a_lower_rate(distil_run, diverging, change, words):
    """Of four iterations an epoch and a loss that is looked at every 50: the checkpoints stay finite. The
    finished teacher, which inherits the learning rate, stays as it is."""
    config, folder = config_of(distil_run), None
    config.default_hooks.logger.interval = 1
    diverging('student', 3 * LENGTH, 0.05, change)
    with pytest.raises(DivergedError, match=f'^student: the checkpoint of epoch 3 is not written: .*{words}.*'
                       '--resume --cfg-options optim_wrapper.optimizer.lr=.*, or '
                       'optim_wrapper.clip_grad.max_norm=1.0, goes on with the student from epoch_2.pth$'):
        RUNNERS.build(copy.deepcopy(config)).train()
    folder = Path(config.work_dir)
    assert (folder / 'student' / 'last_checkpoint').read_text().endswith('epoch_2.pth')
    assert all(value.isfinite().all() for file in (folder / 'student').glob('*.pth')
               for value in weights_of(file).values())
    teacher = weights_of(folder / 'snapshots' / 'epoch_3.pth')

    config.resume = True
    with pytest.raises(ConfigError, match='train_cfg.max_epochs was 4, now 5'):
        longer = copy.deepcopy(config)
        longer.train_cfg.max_epochs = 5
        RUNNERS.build(longer).train()
    config.optim_wrapper.optimizer.lr, config.optim_wrapper.clip_grad = 0.01, dict(max_norm=1.0)
    summary = RUNNERS.build(copy.deepcopy(config)).train()
    assert summary['student']['epoch'] == 4
    assert rates(folder / 'student') == pytest.approx({1: 0.05, 2: 0.05, 3: 0.005, 4: 0.0025})
    assert_same_weights(teacher, weights_of(folder / 'snapshots' / 'epoch_3.pth'))
    log = (folder / 'ckd_mm.log').read_text()
    assert 'Stage student: optim_wrapper.clip_grad.max_norm was None, now 1.0' in log
    assert 'optim_wrapper.optimizer.lr was 0.05, now 0.01; the student goes on with what is said now' in log
    assert 'optim_wrapper.optimizer.lr was 0.05, now 0.01; what is finished stays as it is' in log
    assert RUNNERS.build(config).train() == summary, 'the record of a finished stage may be read again'


def test_a_rate_of_a_training_that_did_not_diverge_cannot_change(distil_run, diverging):
    """Neither by a stop of another kind."""
    config = config_of(distil_run)

    def stop(runner) -> None:
        raise KeyboardInterrupt

    diverging('teacher', 2 * LENGTH + 1, 0.05, stop)
    with pytest.raises(KeyboardInterrupt):
        RUNNERS.build(copy.deepcopy(config)).train()
    config.resume, config.optim_wrapper.optimizer.lr = True, 0.01
    with pytest.raises(ConfigError, match='optim_wrapper.optimizer.lr was 0.05, now 0.01'):
        RUNNERS.build(config).train()


def test_a_teacher_of_nan_is_no_snapshot(distil_run, diverging):
    """Its trajectory has the epochs before, and a lower rate of its own mends it."""
    config = config_of(distil_run)
    diverging('teacher', 2 * LENGTH, 0.05)
    with pytest.raises(DivergedError, match=r'^teacher: epoch_2.pth is not written: 1 of its \d+ weights are '
                       'not finite .*goes on with the teacher from epoch_1.pth$'):
        RUNNERS.build(copy.deepcopy(config)).train()
    folder = Path(config.work_dir)
    assert Trajectory.open(folder).times == [1]
    config.resume, config.teacher.optim_wrapper = True, dict(optimizer=dict(lr=0.02))
    assert RUNNERS.build(config).train(until='teacher') is None
    assert rates(folder / 'teacher') == pytest.approx({1: 0.05, 2: 0.02, 3: 0.01})


def test_two_processes_stop_together(distil_run, diverging):
    """Though the weights are not finite in the second alone, and the first writes."""
    config = config_of(distil_run, launcher='pytorch', rehearsal=False)
    diverging('teacher', LENGTH, 0.05, lambda runner: _nan(runner) if get_rank() else None)

    def train() -> str:
        with pytest.raises(DivergedError) as caught:
            RUNNERS.build(copy.deepcopy(config)).train()
        return str(caught.value)

    first, second = in_two_processes(train)
    assert first == second and 'the checkpoint of epoch 2 is not written' in first
    assert 'goes on with the teacher from epoch_1.pth' in first
    assert read_records(config.work_dir)['teacher']['diverged']


# ------------------------------------------------------------ teachers
@pytest.mark.parametrize('cache, until, message', [
    (None, 'select', r'^the checkpoint of epoch 1 is not written: .* because the logits of snapshot '
     r'\S+/epoch_3.pth \(epoch 3\) are not finite'),
    (dict(views=1), 'select', r'^the targets of rows 0 to 15 are not finite.* of snapshot \S+/epoch_3.pth'),
    (dict(views=1), 'targets', '^the checkpoint of epoch 1 is not written: .* because the logits of the '
     r'cached targets in \S+/targets are not finite')])
def test_a_teacher_of_nan_is_named(distil_run, monkeypatch, cache, until, message):
    """Which of the ensemble, and not the student's learning rate."""
    config = distil_run(probe=None, rehearsal=False)
    config.selector, config.distill.cache = dict(type='epoch', epochs=[1, 3]), cache
    RUNNERS.build(copy.deepcopy(config)).train(until=until)
    member_logits, read = SnapshotEnsemble.member_logits, TargetFile.read
    monkeypatch.setattr(SnapshotEnsemble, 'member_logits', lambda ensemble, inputs: [
        logits / (math.nan if snapshot.epoch == 3 else 1)
        for snapshot, logits in zip(ensemble.snapshots, member_logits(ensemble, inputs))])
    monkeypatch.setattr(TargetFile, 'read', lambda file, rows, device: SoftTarget(
        read(file, rows, device).log_p * math.nan, None, None))
    config.resume = True
    with pytest.raises(NotFiniteError, match=message) as caught:
        RUNNERS.build(config).train()
    assert not isinstance(caught.value, DivergedError)
    assert 'diverged' not in read_records(config.work_dir)['student' if cache is None else 'targets']


# ------------------------------------------------------------ schedules
def cosine(lr: float, done: float, length: int, lowest: float = 0.0) -> float:
    return lowest + (lr - lowest) * (1 + math.cos(math.pi * done / length)) / 2




SCHEDULES = {
    'none': ([], lambda lr, i: lr),
    'multi-step': ([dict(type='MultiStepLR', milestones=[1, 3], gamma=0.1)],
                   lambda lr, i: lr * 0.1**((i >= 4) + (i >= 12))),
    'cosine': ([dict(type='CosineAnnealingLR', T_max=4, eta_min=0.004)],
               lambda lr, i: cosine(lr, i // 4, 4, 0.004)),
    'warm-up': ([dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=6),
                 dict(type='CosineAnnealingLR', T_max=10, eta_min=0.001, by_epoch=False, begin=6, end=16)],
                lambda lr, i: lr * (0.1 + 0.9 * i / 5) if i < 5 else lr if i < 6
                else cosine(lr, i - 6, 10, 0.001)),
    'two kinds of steps': ([dict(type='LinearLR', start_factor=0.5, by_epoch=False, end=9),
                            dict(type='StepLR', step_size=1, gamma=0.5)],
                           lambda lr, i: lr * min(0.5 + 0.5 * i / 8, 1) * 0.5**(i // 4)),
    'polynomial': ([dict(type='PolyLR', power=2, eta_min=0.002, by_epoch=False, end=17)],
                   lambda lr, i: 0.002 + (lr - 0.002) * (1 - i / 16)**2)}


@pytest.mark.parametrize('name', SCHEDULES)
def test_a_new_rate_has_its_own_schedule(digits_run, name):
    """From the checkpoint on it is that of a training which had this rate from its start. Checkpoints did not
    always name theirs."""
    schedulers, formula = SCHEDULES[name]
    config = digits_run(param_scheduler=schedulers, custom_hooks=HOOKS)
    config.train_cfg = dict(type='ckd_mm.ResumableEpochLoop', max_epochs=4)
    config.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=2)
    assert trained(config, 0.04) == pytest.approx([formula(0.04, i) for i in range(16)])
    content = torch.load(Path(config.work_dir) / 'iter_10.pth', weights_only=False)
    if name == 'cosine':
        content[KEY].pop('lr')
    torch.save(content, Path(config.work_dir) / 'here.pth')
    config.load_from, config.resume = str(Path(config.work_dir) / 'here.pth'), True
    assert trained(config, 0.04) == pytest.approx([formula(0.04, i) for i in range(10, 16)])
    assert trained(config, 0.01) == pytest.approx([formula(0.01, i) for i in range(10, 16)])


def trained(config, lr: float) -> list[float]:
    """The learning rate of each iteration."""
    config = copy.deepcopy(config)
    config.optim_wrapper.optimizer.lr, found = lr, []
    runner = StageRunner.from_cfg(config)
    step = runner.call_hook

    def call_hook(name: str, **kwargs) -> None:
        if name == 'before_train_iter':
            found.append(runner.optim_wrapper.get_lr()['lr'][0])
        step(name, **kwargs)

    runner.call_hook = call_hook
    runner.train()
    return found


def test_one_cycle_has_its_rate_from_elsewhere(digits_run):
    """Another eta_max is that of an unbroken training with it; another lr would change nothing."""
    config = digits_run(custom_hooks=HOOKS, epochs=4, param_scheduler=[
        dict(type='OneCycleLR', eta_max=0.04, total_steps=16, by_epoch=False)])
    lower = copy.deepcopy(config)
    lower.param_scheduler[0].eta_max, lower.work_dir = 0.01, f'{config.work_dir}_lower'
    expected = trained(lower, 0.05)
    assert max(expected) == pytest.approx(0.01, rel=0.1)
    trained(config, 0.05)
    for later in (config, lower):
        later.load_from, later.resume = str(Path(config.work_dir) / 'epoch_3.pth'), True
    assert trained(lower, 0.05) == pytest.approx(expected[12:])
    with pytest.raises(ConfigError, match="lower param_scheduler's eta_max"):
        trained(config, 0.02)
    refused = ['param_scheduler.0.eta_max was 0.04, now 0.01', 'param_scheduler.0.eta_min was 1, now 2']
    assert Changes(refused, []).after_divergence() == Changes(refused[1:], refused[:1])


def test_a_rate_that_follows_measurements_is_refused_by_name(digits_run):
    config = digits_run(epochs=2, custom_hooks=HOOKS, param_scheduler=[
        dict(type='ReduceOnPlateauLR', monitor='accuracy/top1', rule='greater')])
    trained(config, 0.05)
    config.load_from, config.resume = str(Path(config.work_dir) / 'epoch_1.pth'), True
    with pytest.raises(ConfigError, match='lr: ReduceOnPlateauLR changes the learning rate by what it measu'):
        trained(config, 0.01)
