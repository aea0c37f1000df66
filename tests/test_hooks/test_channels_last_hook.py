"""Channels last: everywhere in training, nowhere in files, and the same numbers but for rounding."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmpretrain.registry import MODELS as CLASSIFIERS
from torch import nn
from torch.testing import assert_close

from ckd_mm.errors import ConfigError
from ckd_mm.hooks import ChannelsLastHook
from ckd_mm.students import CheckpointDistill
from ckd_mm.teachers import HeadTraining
from ckd_mm.trajectory import Trajectory

from ..conftest import STATISTICS, resnet
from ..helpers import (
    TEACHER,
    StepLog,
    assert_same_weights,
    batch,
    cohort_of,
    feature_distiller,
    is_last,
    train,
    trajectory,
    weights_of,
    with_statistics,
)
from .conftest import PROGRESSIVE

HOOK = dict(type='ckd_mm.ChannelsLastHook')
STATE = dict(type='ckd_mm.StageStateHook')


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """Where teachers are not in channels_last anyway."""
    monkeypatch.setattr('ckd_mm.students.taught_student.CHANNELS_LAST_ON', ())


def convolutions(model: nn.Module) -> list:
    """Weights of those with several input channels and pixels."""
    return [part.weight for part in model.modules() if isinstance(part, nn.Conv2d)
            and part.weight[0, 0].numel() > 1]


class Layout(Hook):
    """Whether the weights are in channels_last in each step, and the averaged ones and momenta at the end."""
    priority = 'LOWEST'

    def __init__(self, part=lambda model: model) -> None:
        self.part, self.weights, self.end = part, [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.weights += map(is_last, convolutions(self.part(runner.model)))

    def after_train(self, runner) -> None:
        averaged = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
        state, weights = runner.optim_wrapper.optimizer.state, convolutions(runner.model)
        self.end += map(is_last, weights + sum(map(convolutions, averaged), []) +
                        [state[weight]['momentum_buffer'] for weight in weights if weight in state])


class Maps(Hook):
    """What the backbone gets and returns, in training and in evaluation, is in channels_last."""

    def before_train(self, runner) -> None:
        self.inputs, self.maps = [], []
        backbone = getattr(runner.model, 'student', runner.model).backbone
        backbone.register_forward_pre_hook(
            lambda module, inputs: self.inputs.append((module.training, is_last(inputs[0]))))
        backbone.layer1.register_forward_hook(lambda module, inputs, maps: self.maps.append(is_last(maps)))

    def after_train(self, runner) -> None:
        assert {training for training, _ in self.inputs} == {True, False}
        assert self.maps and all(self.maps) and all(last for _, last in self.inputs)


def distilled(make, folder, cohort=None, **settings):
    config = make(**settings)
    config.model = dict(type='ckd_mm.CheckpointDistill', student=resnet(),
                        cohort=cohort or cohort_of(folder / 'teacher', 1, 3))
    return config


# ---------------------------------------------------------------- in a run
@pytest.mark.parametrize('what', ['plain', 'distilled'])
def test_everything_is_channels_last_and_nothing_else_changes(digits_run, tmp_path, what):
    make = digits_run if what == 'plain' else lambda **settings: distilled(digits_run, tmp_path, **settings)
    usual, log, layout = StepLog(), StepLog(), Layout()
    plain = train(make(work_dir=str(tmp_path / 'usual')), usual)
    runner = train(make(work_dir=str(tmp_path / 'last'), custom_hooks=[HOOK]), log, layout, Maps())
    assert layout.weights and all(layout.weights)
    assert log.steps[0][1] == pytest.approx(usual.steps[0][1], rel=1e-5)
    assert len(log.steps) == len(usual.steps) == 8
    assert log.steps[-1][1]['loss'] == pytest.approx(usual.steps[-1][1]['loss'], rel=1e-3)
    saved, same = (weights_of(tmp_path / name / 'epoch_1.pth') for name in ('usual', 'last'))
    for name, value in same.items():
        assert_close(value, saved[name], rtol=1e-3, atol=1e-4)
    assert not any(each.model.data_preprocessor._forward_hooks for each in (runner, plain))


def test_files_are_as_without_it(digits_run):
    """Weights, averaged weights and momenta in torch's usual layout; torch's own notes on versions stay."""
    layout = Layout()
    runner = train(digits_run(custom_hooks=[HOOK, dict(type='EMAHook', momentum=0.3)], epochs=1), layout)
    assert len(layout.end) == 3 * 5 and all(layout.end)
    checkpoint = torch.load(Path(runner.work_dir) / 'epoch_1.pth', weights_only=False)
    momenta = [state['momentum_buffer'] for state in checkpoint['optimizer']['state'].values()]
    assert len(momenta) == len(list(runner.model.parameters()))
    for tensor in [*checkpoint['state_dict'].values(), *checkpoint['ema_state_dict'].values(), *momenta]:
        assert tensor.is_contiguous()
    assert checkpoint['state_dict']._metadata['backbone.bn1'] == dict(version=2)
    assert list(checkpoint['state_dict']) == list(runner.model.state_dict())
    assert not any(map(is_last, runner.model.parameters()))


def test_a_run_is_resumed_with_the_hook_or_without(digits_run, tmp_path):
    """With it, it ends like the unbroken run, bit for bit."""
    whole = train(digits_run(work_dir=str(tmp_path / 'whole'), custom_hooks=[STATE, HOOK]))
    for hooks in ([True, True], [True, False], [False, True]):
        config = digits_run(work_dir=str(tmp_path / str(hooks)), epochs=1)
        for epochs, on in enumerate(hooks, 1):
            config.custom_hooks = [STATE] + [HOOK] * on
            config.train_cfg.max_epochs, config.resume = epochs, epochs > 1
            layout = Layout()
            runner = train(config, layout)
            assert set(layout.end) == {on} and runner.epoch == epochs
        for name, value in whole.model.state_dict().items():
            assert_close(runner.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)
        if all(hooks):
            assert_same_weights(runner.model.state_dict(), whole.model.state_dict())
            assert_same_weights(*(weights_of(f'{each.work_dir}/epoch_2.pth') for each in (runner, whole)))


def test_a_test_run_alone(digits_run, tmp_path):
    runner = train(digits_run(epochs=1))
    config = digits_run(custom_hooks=[HOOK], work_dir=str(tmp_path / 'test'))
    config.load_from, config.experiment_name = f'{runner.work_dir}/epoch_1.pth', 'tested alone'
    tester, inputs = Runner.from_cfg(config), []
    tester.model.backbone.register_forward_pre_hook(lambda module, given: inputs.append(is_last(given[0])))
    accuracy = tester.test()['accuracy/top1']
    assert inputs == [True]
    assert accuracy == pytest.approx(runner.message_hub.get_scalar('val/accuracy/top1').current(), abs=1.0)


def test_the_whole_method(distil_run):
    """In all its stages: teacher, probe, student; what they leave loads strictly, in the usual layout."""
    config = distil_run(custom_hooks=[HOOK])
    # in torch 2.15 the backward pass of 1x1 convolutions of 4 channels and stride 2 corrupts memory on some
    # CPUs
    config.teacher.model = resnet(2, channels=8)
    summary = RUNNERS.build(config).train()
    folder = Path(config.work_dir)
    student, teacher = (CLASSIFIERS.build(with_statistics(model))
                        for model in (resnet(), resnet(2, channels=8)))
    files = {file: student for file in (folder / 'student.pth', *folder.glob('student/epoch_*.pth'))}
    for file, network in {**files, Trajectory.open(folder).last.file: teacher}.items():
        weights = weights_of(file)
        network.load_state_dict(weights, strict=True)
        assert all(weight.is_contiguous() for weight in weights.values())
    assert len(files) > 1 and summary['student']['accuracy_top1'] > 0


# ---------------------------------------------------------------- teachers
def test_teachers_that_take_turns(digits_run, tmp_path, teaching):
    layout = Layout(lambda model: model.cohort)
    train(distilled(digits_run, tmp_path, custom_hooks=[HOOK, PROGRESSIVE]), layout)
    assert teaching == [[1]] * 4 + [[3]] * 4
    assert len(layout.weights) >= 8 * 9 and all(layout.weights)


def test_a_teacher_with_heads(digits_run, tmp_path):
    """Its own and those in training; the network below heads in training is given back as it was."""
    snapshot = trajectory(tmp_path / 'teacher', model=TEACHER).at(3)
    heads = HeadTraining(snapshot, (0, 1), (3, 8, 8)).write(tmp_path / 'heads.pth')
    taught, training = Layout(lambda model: model.cohort), Layout(lambda model: model.network)
    teacher = dict(type='ckd_mm.DIHTeacher', snapshot=str(snapshot.file), heads=str(heads.file))
    runner = train(distilled(digits_run, tmp_path, teacher, custom_hooks=[HOOK], epochs=1), taught)
    assert taught.weights and all(taught.weights)
    assert runner.model.cohort.member_names == ['head 0', 'head 1', 'teacher']
    config = digits_run(custom_hooks=[HOOK], epochs=1)
    config.model = dict(type='ckd_mm.HeadTraining', snapshot=str(snapshot.file), out_indices=(0, 1),
                        input_shape=(3, 8, 8))
    runner = train(config, training)
    assert training.weights and all(training.weights)
    assert not any(map(is_last, convolutions(runner.model.network)))


# ---------------------------------------------------------------- in a wrapper
@pytest.fixture
def process_group(tmp_path):
    """Of this process alone: DistributedDataParallel keeps its gradients in buckets as with many."""
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/meeting', rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def trained(folder: Path, wrapped: bool) -> dict:
    """Weights after three steps, in channels_last under the wrapper."""
    torch.manual_seed(3)
    student = with_statistics(resnet(1, norm_cfg=dict(type='GN', num_groups=2)))
    model = CheckpointDistill(student, cohort_of(folder, 1, 3))
    runs = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False) if wrapped else model
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
    if wrapped:
        ChannelsLastHook().before_train(SimpleNamespace(
            model=runs, hooks=[], optim_wrapper=wrapper,
            train_dataloader=SimpleNamespace(dataset=[None])))
    runs.train()
    maps = []
    model.student.backbone.layer1.register_forward_hook(lambda module, inputs, output: maps.append(output))
    for step in range(3):
        runs.train_step(batch(12, seed=step), wrapper)
    if wrapped:
        assert all(map(is_last, maps)) and all(map(is_last, convolutions(model.cohort)))
        assert not any(map(is_last, convolutions(model)))
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def test_gradients_are_right_in_a_wrapper(tmp_path, process_group):
    """Weights whose layout changes after DistributedDataParallel has seen them get wrong ones, in torch 2.1
    as in 2.15."""
    trajectory(tmp_path, model=TEACHER)
    expected, found = trained(tmp_path, wrapped=False), trained(tmp_path, wrapped=True)
    for name, value in expected.items():
        assert_close(found[name], value, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- the trial before training
def test_a_network_that_views_its_maps_is_named_before_training(digits_run):
    large = [dict(type='Resize', scale=224), dict(type='PackInputs')]
    config = digits_run(custom_hooks=[HOOK], train_dataloader=dict(dataset=dict(pipeline=large)),
                        val_dataloader=None, val_cfg=None, val_evaluator=None)
    config.model = dict(type='ImageClassifier', backbone=dict(type='AlexNet', num_classes=10),
                        head=dict(type='ClsHead'))
    log = StepLog()
    with pytest.raises(ConfigError, match='ImageClassifier fails on an image in channels_last, '
                                          '.*RuntimeError: .*Take the hook out'):
        train(config, log)
    assert log.steps == []


class OtherNames(BaseModel):
    """Its forward gives its arguments no defaults."""

    def __init__(self) -> None:
        super().__init__(data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', **STATISTICS))
        self.backbone = nn.Sequential(nn.Conv2d(3, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, inputs, data_samples, mode):
        return dict(loss=nn.functional.cross_entropy(self.backbone(inputs),
                                                     torch.cat([sample.gt_label for sample in data_samples])))


def test_what_cannot_be_tried_trains_all_the_same(digits_run, monkeypatch):
    lines, layout = [], Layout()
    monkeypatch.setattr('ckd_mm.hooks.channels_last_hook.print_log', lambda line, logger: lines.append(line))
    config = digits_run(custom_hooks=[HOOK], epochs=1, val_dataloader=None, val_cfg=None, val_evaluator=None)
    config.model = OtherNames()
    train(config, layout)
    assert layout.weights and all(layout.weights)
    assert 'OtherNames could not be tried on an image before training (TypeError: ' in lines[0]


def test_connectors_in_a_checkpoint_are_in_the_usual_layout(digits_run, tmp_path):
    """Whichever of the two hooks comes first."""
    distiller = feature_distiller(channels=(4, 4), loss_weight=1e-5)
    distiller['connectors']['adapt'].update(kernel_size=3, padding=1)
    for order in (1, -1):
        config = distilled(digits_run, tmp_path, custom_hooks=[HOOK, STATE][::order], epochs=1,
                           work_dir=str(tmp_path / str(order)))
        config.model.distiller = distiller
        runner = train(config)
        saved = torch.load(tmp_path / str(order) / 'epoch_1.pth', weights_only=False)
        weight = saved['ckd_mm_stage']['distiller']['connectors.adapt.conv_module.conv.weight']
        assert weight.shape == (4, 4, 3, 3) and weight.is_contiguous()
        assert torch.equal(weight, runner.model.distiller.razor.connectors['adapt'].conv_module.conv.weight)
