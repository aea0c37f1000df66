"""Channels last: everywhere while it trains, nowhere in files, and the same numbers but for rounding."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from mmengine.dataset import pseudo_collate
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import RUNNERS
from mmpretrain.registry import MODELS as CLASSIFIERS
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, IterableDataset

from ckd_mm.errors import ConfigError
from ckd_mm.hooks import ChannelsLastHook
from ckd_mm.registry import MODELS
from ckd_mm.students import CheckpointDistill
from ckd_mm.teachers import HeadTraining
from ckd_mm.trajectory import Trajectory

from ..conftest import STATISTICS, resnet
from ..helpers import (
    TEACHER,
    StepLog,
    assert_same_weights,
    batch,
    is_last,
    train,
    trajectory,
    weights_of,
    with_statistics,
)

HOOK = dict(type='ckd_mm.ChannelsLastHook')


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """Where teachers are not in channels_last anyway."""
    monkeypatch.setattr('ckd_mm.students.taught_student.CHANNELS_LAST_ON', ())


def convolutions(model: nn.Module) -> list:
    """Weights of those with several input channels and pixels."""
    return [part.weight for part in model.modules() if isinstance(part, nn.Conv2d)
            and part.weight[0, 0].numel() > 1]


class Watch(Hook):
    """What the backbone gets and gives, in training and in evaluation, and how the weights lie."""
    priority = 'LOWEST'

    def __init__(self) -> None:
        self.inputs, self.weights, self.maps = [], [], []

    def before_train(self, runner) -> None:
        student = getattr(runner.model, 'student', runner.model)
        student.backbone.register_forward_pre_hook(lambda module, inputs: self.inputs.append(
            (module.training, is_last(inputs[0]))))
        student.backbone.layer1.register_forward_hook(
            lambda module, inputs, output: self.maps.append(is_last(output)))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.weights += map(is_last, convolutions(runner.model))

    def after_train(self, runner) -> None:
        assert {training for training, _ in self.inputs} == {True, False}
        assert self.weights and self.maps and all(last for _, last in self.inputs)
        assert all(self.weights) and all(self.maps)


class AtTheEnd(Hook):
    """How the weights, the averaged ones and the momenta of convolutions lie when the last step is taken."""

    def after_train(self, runner) -> None:
        averaged = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
        state = runner.optim_wrapper.optimizer.state
        weights = convolutions(runner.model)
        assert weights and len({id(weight) for weight in weights}
                               & {id(key) for key in state}) == len(weights)
        self.last = [
            is_last(tensor)
            for tensor in weights + [state[weight]['momentum_buffer']
                                     for weight in weights] + sum(map(convolutions, averaged), [])
        ]


def distilled(make, folder, cohort=None, **settings):
    config = make(**settings)
    if not (folder / 'teacher' / 'trajectory.json').exists():
        trajectory(folder / 'teacher', model=TEACHER)
    snapshots = [dict(trajectory=str(folder / 'teacher'), epoch=epoch) for epoch in (1, 3)]
    config.model = dict(type='ckd_mm.CheckpointDistill', student=resnet(),
                        cohort=cohort or dict(type='ckd_mm.SnapshotEnsemble', snapshots=snapshots))
    return config


# ---------------------------------------------------------------- in a run
@pytest.mark.parametrize('what', ['plain', 'distilled'])
def test_everything_is_channels_last_and_nothing_else_changes(digits_run, tmp_path, what):
    make = digits_run if what == 'plain' else lambda **settings: distilled(digits_run, tmp_path, **settings)
    usual, log = StepLog(), StepLog()
    plain = train(make(work_dir=str(tmp_path / 'usual')), usual)
    runner = train(make(work_dir=str(tmp_path / 'last'), custom_hooks=[HOOK]), log, Watch())
    assert log.steps[0][1] == pytest.approx(usual.steps[0][1], rel=1e-5)
    assert len(log.steps) == len(usual.steps) == 8
    assert log.steps[-1][1]['loss'] == pytest.approx(usual.steps[-1][1]['loss'], rel=1e-3)
    files = [tmp_path / name / 'epoch_1.pth' for name in ('usual', 'last')]
    saved, same = (torch.load(file, weights_only=False) for file in files)
    for name, value in same['state_dict'].items():
        assert_close(value, saved['state_dict'][name], rtol=1e-3, atol=1e-4)
    assert not any(each.model.data_preprocessor._forward_hooks for each in (runner, plain))


def test_files_are_as_without_it(digits_run, tmp_path):
    """Weights, averaged weights and momenta in torch's usual order; torch's own notes on versions stay."""
    settings = dict(custom_hooks=[HOOK, dict(type='EMAHook', momentum=0.3)], epochs=1)
    end = AtTheEnd()
    runner = train(digits_run(**settings), end)
    assert len(end.last) == 3 * 5 and all(end.last)
    checkpoint = torch.load(Path(runner.work_dir) / 'epoch_1.pth', weights_only=False)
    momenta = [state['momentum_buffer'] for state in checkpoint['optimizer']['state'].values()]
    assert len(momenta) == len(list(runner.model.parameters()))
    for tensor in [*checkpoint['state_dict'].values(), *checkpoint['ema_state_dict'].values(), *momenta]:
        assert tensor.is_contiguous()
    assert checkpoint['state_dict']._metadata['backbone.bn1'] == dict(version=2)
    assert list(checkpoint['state_dict']) == list(runner.model.state_dict())
    assert not any(map(is_last, runner.model.parameters()))


def test_a_resumed_run_ends_like_an_unbroken_one(digits_run, tmp_path):
    whole = train(
        digits_run(work_dir=str(tmp_path / 'whole'), custom_hooks=[HOOK, dict(type='ckd_mm.StageStateHook')]))
    config = digits_run(work_dir=str(tmp_path / 'parts'),
                        custom_hooks=[HOOK, dict(type='ckd_mm.StageStateHook')], epochs=1)
    train(config)
    config.train_cfg.max_epochs, config.resume = 2, True
    end = AtTheEnd()
    parts = train(config, end)
    assert parts.epoch == 2 and all(end.last)
    assert_same_weights(parts.model.state_dict(), whole.model.state_dict())
    assert_same_weights(weights_of(tmp_path / 'parts' / 'epoch_2.pth'),
                        weights_of(tmp_path / 'whole' / 'epoch_2.pth'))


@pytest.mark.parametrize('first', [True, False], ids=['on then off', 'off then on'])
def test_a_run_is_resumed_with_the_hook_or_without(digits_run, tmp_path, first):
    ends = []
    for hooks in ([first, first], [first, not first]):
        config = digits_run(work_dir=str(tmp_path / str(hooks)), epochs=1)
        for epochs, on in enumerate(hooks, 1):
            config.custom_hooks = [dict(type='ckd_mm.StageStateHook')] + [HOOK] * on
            config.train_cfg.max_epochs, config.resume = epochs, epochs > 1
            end = AtTheEnd()
            runner = train(config, end)
            assert set(end.last) == {on}
        ends.append(runner.model.state_dict())
    for name, value in ends[0].items():
        assert_close(value, ends[1][name], rtol=1e-3, atol=1e-4)


def test_a_test_run_alone(digits_run, tmp_path):
    from mmengine.runner import Runner
    runner = train(digits_run(epochs=1))
    config = digits_run(custom_hooks=[HOOK], work_dir=str(tmp_path / 'test'))
    config.load_from = f'{runner.work_dir}/epoch_1.pth'
    config.experiment_name = 'tested alone'
    tester = Runner.from_cfg(config)
    seen = []
    tester.model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(is_last(inputs[0])))
    metrics = tester.test()
    assert seen == [True]
    assert metrics['accuracy/top1'] == pytest.approx(
        runner.message_hub.get_scalar('val/accuracy/top1').current(), abs=1.0)


# ---------------------------------------------------------------- teachers
class Teachers(Hook):
    """How the teachers' weights and what they are given lie, in every step."""
    priority = 'LOWEST'

    def __init__(self) -> None:
        self.weights, self.steps, self.names = [], 0, []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.steps += 1
        self.names.append(runner.model.cohort.member_names)
        self.weights += map(is_last, convolutions(runner.model.cohort))


def test_teachers_that_take_turns(digits_run, tmp_path):
    watch = Teachers()
    train(distilled(digits_run, tmp_path, custom_hooks=[HOOK,
                                                        dict(type='ckd_mm.ProgressiveTeacherHook')]), watch)
    assert watch.names == [['snapshot 1 (epoch 1)']] * 4 + [['snapshot 1 (epoch 3)']] * 4
    assert len(watch.weights) >= 8 * 9 and all(watch.weights)


def test_a_teacher_with_heads(digits_run, tmp_path):
    snapshot = trajectory(tmp_path / 'teacher', model=TEACHER).at(3)
    heads = HeadTraining(snapshot, (0, 1), (3, 8, 8)).write(tmp_path / 'heads.pth')
    watch = Teachers()
    train(distilled(digits_run, tmp_path, dict(type='ckd_mm.DIHTeacher', snapshot=str(snapshot.file),
                                               heads=str(heads.file)), custom_hooks=[HOOK], epochs=1), watch)
    assert watch.steps == 4 and all(watch.weights) and watch.names[0] == ['head 0', 'head 1', 'teacher']


class Heads(Teachers):
    """The same of the network that heads are mounted on."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.weights += map(is_last, convolutions(runner.model.network))


def test_heads_in_training(digits_run, tmp_path):
    snapshot = trajectory(tmp_path / 'teacher', model=TEACHER).at(3)
    config = digits_run(custom_hooks=[HOOK], epochs=1)
    config.model = dict(type='ckd_mm.HeadTraining', snapshot=str(snapshot.file), out_indices=(0, 1),
                        input_shape=(3, 8, 8))
    watch = Heads()
    runner = train(config, watch)
    assert watch.weights and all(watch.weights) and not any(map(is_last, convolutions(runner.model.network)))


def test_teachers_that_are_there_before(tmp_path):
    trajectory(tmp_path, model=TEACHER)
    model = CheckpointDistill(
        with_statistics(resnet(1)),
        dict(type='ckd_mm.SnapshotEnsemble', snapshots=[dict(trajectory=str(tmp_path), epoch=2)]))
    images = torch.randn(4, 3, 8, 8)
    expected = model.teacher_logits(images)
    model.to_channels_last()
    assert_close(model.teacher_logits(images.contiguous(memory_format=torch.channels_last)), expected,
                 rtol=1e-4, atol=1e-5)
    assert all(map(is_last, convolutions(model.cohort))) and not any(map(is_last, convolutions(model)))


def test_the_whole_method(distil_run):
    """In all its stages: teacher, probe, student; what they leave loads strictly, in the usual order."""
    config = distil_run(custom_hooks=[HOOK])
    # in torch 2.15 the backward pass of 1x1 convolutions of 4 channels and stride 2 corrupts memory on some
    # CPUs
    config.teacher.model = resnet(2, channels=8)
    summary = RUNNERS.build(config).train()
    folder = Path(config.work_dir)
    student = CLASSIFIERS.build(dict(resnet(), data_preprocessor=dict(STATISTICS)))
    for file in (folder / 'student.pth', *folder.glob('student/epoch_*.pth')):
        weights = weights_of(file)
        student.load_state_dict(weights, strict=True)
        assert all(weight.is_contiguous() for weight in weights.values())
    snapshot = Trajectory.open(folder).last
    teacher = CLASSIFIERS.build(with_statistics(resnet(2, channels=8)))
    teacher.load_state_dict(weights_of(snapshot.file), strict=True)
    assert all(weight.is_contiguous() for weight in weights_of(snapshot.file).values())
    assert summary['student']['accuracy_top1'] > 0


# ---------------------------------------------------------------- in a wrapper
NORM = dict(norm_cfg=dict(type='GN', num_groups=2))


@pytest.fixture
def process_group(tmp_path):
    """Of this process alone: DistributedDataParallel keeps its gradients in buckets as with many."""
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/meeting', rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def trained(folder: Path, wrapped: bool, begin) -> dict:
    cohort = dict(type='ckd_mm.SnapshotEnsemble',
                  snapshots=[dict(trajectory=str(folder), epoch=epoch) for epoch in (1, 3)])
    torch.manual_seed(3)
    model = MODELS.build(
        dict(type='ckd_mm.CheckpointDistill', student=with_statistics(resnet(1, **NORM)), cohort=cohort))
    runs = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False) if wrapped else model
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
    begin(SimpleNamespace(model=runs, hooks=[], optim_wrapper=wrapper,
                          train_dataloader=SimpleNamespace(dataset=[None])))
    runs.train()
    seen = []
    model.student.backbone.layer1.register_forward_hook(lambda module, inputs, output: seen.append(output))
    for step in range(3):
        runs.train_step(batch(12, seed=step), wrapper)
    if wrapped:
        assert all(map(is_last, seen)) and all(map(is_last, convolutions(
            model.cohort))) and not any(map(is_last, convolutions(model)))
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def test_gradients_are_right_in_a_wrapper(tmp_path, process_group):
    """Weights that are rearranged after DistributedDataParallel has seen them get wrong ones, in torch 2.1 as
    in 2.15."""
    trajectory(tmp_path, model=TEACHER)
    expected = trained(tmp_path, wrapped=False, begin=lambda runner: None)
    found = trained(tmp_path, wrapped=True, begin=ChannelsLastHook().before_train)
    for name, value in expected.items():
        assert_close(found[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('backbone', [dict(type='VGG', depth=11, num_classes=10),
                          dict(type='AlexNet', num_classes=10)])
def test_a_network_that_views_its_maps_is_named_before_training(digits_run, backbone):
    large = [dict(type='Resize', scale=224), dict(type='PackInputs')]
    config = digits_run(custom_hooks=[HOOK], train_dataloader=dict(dataset=dict(pipeline=large)),
                        val_dataloader=None, val_cfg=None, val_evaluator=None)
    config.model = dict(type='ImageClassifier', backbone=backbone, head=dict(type='ClsHead'))
    log = StepLog()
    with pytest.raises(ConfigError, match='ImageClassifier fails on an image in channels_last, '
                                          '.*RuntimeError: .*Take the hook out'):
        train(config, log)
    assert log.steps == []


class Stream(IterableDataset):
    """Digits one after another, without numbers."""

    def __init__(self, dataset) -> None:
        self.dataset, self.metainfo = dataset, dataset.metainfo

    def __iter__(self):
        return iter([self.dataset[index] for index in range(16)])

    def __len__(self) -> int:
        return 16


class OtherNames(BaseModel):
    """Its forward gives its arguments no defaults."""

    def __init__(self) -> None:
        super().__init__(data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', **STATISTICS))
        self.backbone = nn.Sequential(nn.Conv2d(3, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, inputs, data_samples, mode):
        return dict(loss=nn.functional.cross_entropy(self.backbone(inputs),
                                                     torch.cat([sample.gt_label for sample in data_samples])))


def stream(runner) -> None:
    dataset = Stream(runner.train_dataloader.dataset)
    runner.train_loop.dataloader = DataLoader(dataset, batch_size=8, collate_fn=pseudo_collate)


class Begin(Hook):
    """Changes the run before the hook's own ``before_train``, and sees how its weights lie in a step."""

    def __init__(self, change) -> None:
        self.change, self.last = change, []

    def before_train(self, runner) -> None:
        self.change(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.last += map(is_last, convolutions(runner.model))


@pytest.mark.parametrize('what, reason', [(stream, 'NotImplementedError'), (OtherNames, 'TypeError')])
def test_what_cannot_be_tried_trains_all_the_same(digits_run, monkeypatch, what, reason):
    logged = []
    monkeypatch.setattr('ckd_mm.hooks.channels_last_hook.print_log',
                        lambda message, logger: logged.append(message))
    config = digits_run(custom_hooks=[HOOK], epochs=1, val_dataloader=None, val_cfg=None, val_evaluator=None)
    if what is OtherNames:
        config.model = OtherNames()
    begin = Begin(what if what is stream else lambda runner: None)
    train(config, begin)
    assert begin.last and all(begin.last)
    message, = logged
    assert 'could not be tried on an image before training' in message and f'({reason}: ' in message


def test_connectors_in_a_checkpoint_are_in_the_usual_order(digits_run, tmp_path):
    """Whichever of the two hooks comes first. Resumed they are those of the unbroken run."""
    connector = dict(type='ConvModuleConnector', in_channel=4, out_channel=4, kernel_size=3, padding=1)
    feature = dict(type='ModuleOutputs', source='backbone.layer1')
    distiller = dict(
        type='ConfigurableDistiller', student_recorders=dict(feature=feature),
        teacher_recorders=dict(feature=dict(feature, source='networks.0.backbone.layer1')),
        distill_losses=dict(loss_feature=dict(type='L2Loss', normalize=False, loss_weight=1e-5)),
        connectors=dict(wide=connector), loss_forward_mappings=dict(
            loss_feature=dict(s_feature=dict(recorder='feature', from_student=True, connector='wide'),
                              t_feature=dict(recorder='feature', from_student=False))))
    for order in (1, -1):
        config = distilled(digits_run, tmp_path,
                           custom_hooks=[HOOK, dict(type='ckd_mm.StageStateHook')][::order], epochs=1,
                           work_dir=str(tmp_path / str(order)))
        config.model.distiller = distiller
        runner = train(config)
        saved = torch.load(tmp_path / str(order) / 'epoch_1.pth',
                           weights_only=False)['ckd_mm_stage']['distiller']
        weight = saved['connectors.wide.conv_module.conv.weight']
        assert weight.shape == (4, 4, 3, 3) and weight.is_contiguous()
        assert torch.equal(weight, runner.model.distiller.connectors['wide'].conv_module.conv.weight)
