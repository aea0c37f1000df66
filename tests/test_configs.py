"""Every config that we ship trains, and its header says what it does."""

import argparse
import ast
import copy
import json
import math
import re
import shlex
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmpretrain.registry import HOOKS, MODELS
from PIL import Image
from torch.nn.modules.batchnorm import _BatchNorm

from ckd_mm.data.in_memory import settled
from ckd_mm.data.wrappers import undivided
from ckd_mm.pipeline.build import open_run, stage_of
from ckd_mm.pipeline.runner import CheckpointDistillRunner
from ckd_mm.pipeline.schedule_check import misfit
from ckd_mm.pipeline.training_stage import TrainingStage
from ckd_mm.stages.peers import PeersStage
from ckd_mm.stages.student import StudentStage
from ckd_mm.training import as_list
from ckd_mm.trajectory import Snapshot, Trajectory, model_config_of

from .conftest import ROOT

FOLDER = ROOT / 'configs'
FILES = sorted(FOLDER.rglob('*.py'))
ALL = [str(path.relative_to(FOLDER).with_suffix('')) for path in FILES if '_base_' not in path.parts]
# an mmpretrain run: tests/test_pipeline/test_finetune.py trains it
ORDINARY = ['eskd/finetune_r18_places365']
CONFIGS = [name for name in ALL if name not in ORDINARY]
EPOCH = 2  # iterations
SIZES = {'Digits': 8, 'CIFAR10': 32, 'CIFAR100': 32, 'CustomDataset': 32, 'TinyImageNet': 64, 'ImageNet': 224}


@cache
def parsed(name: str) -> dict:
    return Config.fromfile(FOLDER / f'{name}.py').to_dict()


def config_of(name: str, options: str = '') -> Config:
    """A config as the command line would make it."""
    # mmengine formats every dump of a config, for a second each; where fromfile is told not to, it forgets
    path = str(FOLDER / f'{name}.py')
    config = Config(copy.deepcopy(parsed(name)), filename=path, format_python_code=False)
    config.work_dir = 'unused'
    if options:
        parser = argparse.ArgumentParser()
        parser.add_argument('--cfg-options', nargs='+', action=DictAction)
        config.merge_from_dict(parser.parse_args(['--cfg-options', *shlex.split(options)]).cfg_options)
    return config


def open_config(config: Config) -> tuple:
    """A config as a run and its stages, as if a snapshot had been selected."""
    run, stages = open_run(config)
    for stage in stages:
        if stage.name == 'select':
            stage.chosen = lambda run: [dict(file='teacher.pth')]
    return run, stages


@cache
def opened(name: str, options: str = '') -> tuple:
    """Shared by the tests, none of which changes it."""
    return open_config(config_of(name, options))


def networks_of(run, stages) -> list:
    """Configs of all networks that a run trains."""
    found = [model_config_of(stage.training(run)) for stage in stages if isinstance(stage, TrainingStage)]
    peers = [stage for stage in stages if isinstance(stage, PeersStage)]
    return found + [model_config_of(stage.peer_training(run)) for stage in peers]


def innermost(dataset: Config) -> Config:
    while 'dataset' in dataset:  # parts of it
        dataset = dataset.dataset
    return dataset


def data_of(config: Config) -> str:
    return innermost(config.train_dataloader.dataset).type.split('.')[-1]


# ------------------------------------------------------------ each can be read at once
def bases_of(path: Path) -> list:
    """The files that the ``_base_`` of a config names."""
    for line in ast.parse(path.read_text()).body:
        if isinstance(line, ast.Assign) and getattr(line.targets[0], 'id', None) == '_base_':
            names = ast.literal_eval(line.value)
            return [(path.parent / name).resolve() for name in ([names] if isinstance(names, str) else names)]
    return []


def depth(path: Path) -> int:
    """How many files one opens, one after the other, to see where a setting of a config comes from."""
    return max((1 + depth(base) for base in bases_of(path)), default=0)


def test_at_most_two_bases_deep():
    """And a config that one runs is no base: what two have in common is in ``_base_``."""
    assert {str(path): depth(path) for path in FILES if depth(path) > 2} == {}
    assert {str(path): base for path in FILES for base in bases_of(path) if '_base_' not in base.parts} == {}


# ------------------------------------------------------------ all are built
@cache
def logits_of(model: str, size: int) -> tuple:
    """Shape of a network's logits of two images, computed without their values."""
    network = MODELS.build(json.loads(model)).to('meta').eval()
    return tuple(network(torch.zeros(2, 3, size, size, device='meta')).shape)


def plain_data(config) -> str:
    return json.dumps(config, default=lambda value: value.to_dict(), sort_keys=True)


@pytest.mark.parametrize('name', CONFIGS)
def test_networks_fit_the_data(name):
    run, stages = opened(name)
    for network in networks_of(run, stages):
        assert logits_of(plain_data(network), SIZES[data_of(run.config)]) == (
            2, run.config.data_preprocessor.num_classes)


# ------------------------------------------------------------ two iterations of every stage, of each kind
TRAINED = [
    'ckd/demo_digits', 'ckd/r50_mobilenetv2_imagenet', 'ckd/resnet110_mobilenetv2_cifar100',
    'ckd/resnet14_resnet8_cifar10_small', 'ckd/wrn40-2_mobilenetv2_tiny_imagenet',
    'ckd/wrn40-2_wrn40-1_cifar100_ensemble', 'dih/dih_digits', 'dih/r50_r18_imagenet',
    'dih/vgg11_res8_cifar10', 'eskd/eskd_digits', 'eskd/densenet100-12_densenet40-12_cifar10',
    'eskd/r34_r18_imagenet_at', 'eskd/resnet8_generations_at_cifar10',
    'baselines/fitnets_res34_res8_cifar100', 'small/dkd', 'small/dml', 'small/fitnets',
    'small/label_smoothing', 'small/logit_standardization', 'small/takd']


def kind_of(name: str) -> set:
    """What a config is made of: its data, its networks together, and each part of its method."""
    run, stages = opened(name)
    distill, selector = run.config.get('distill') or {}, run.config.get('selector', {})
    distillers = [part.distiller for part in (distill, run.config.get('hint') or {}) if part.get('distiller')]
    return {data_of(run.config),
            ' '.join(sorted({network['backbone']['type'] for network in networks_of(run, stages)})),
            type(stages[0]).__name__, run.config.model.head.loss.type,
            f'heads {(run.config.get("heads") or {}).get("kind")}',
            f'selector {selector.get("kind")}' if isinstance(selector, dict) else 'selector',
            *(key for key in ('hint', 'assistants', 'generations', 'student_alone') if run.config.get(key)),
            *(f'distill.{key}' for key in ('loss', 'schedule', 'standardize', 'stop_epoch')
              if distill.get(key)),
            *(loss.type for distiller in distillers for loss in distiller.losses.values()),
            *(f'{side} {loss[side]}' for distiller in distillers for side in ('student', 'teacher')
              for loss in distiller.losses.values())}


def test_every_kind_is_trained():
    kinds = {name: kind_of(name) for name in CONFIGS}
    trained = set().union(*(kinds[name] for name in TRAINED))
    assert not {name: kind - trained for name, kind in kinds.items() if kind - trained}


class Watch(Hook):
    """By stage: the losses of its steps, the number of its weights, and those that stayed as they were."""
    stages = {}

    def before_train(self, runner) -> None:
        for module in runner.model.modules():
            if isinstance(module, _BatchNorm):
                # two steps are too few for running means: in eval mode deep networks would overflow
                module.momentum = 1.0
        self.start = {name: value.detach().clone() for name, value in runner.model.named_parameters()
                      if value.requires_grad}
        self.steps = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.steps.append({name: float(value) for name, value in outputs.items() if 'loss' in name})

    def after_train(self, runner) -> None:
        trained = dict(runner.model.named_parameters())
        same = [name for name, value in self.start.items() if torch.equal(value, trained[name])]
        self.stages[Path(runner.work_dir).name] = (self.steps, len(trained), same)


@pytest.fixture
def watch():
    Watch.stages = {}
    HOOKS.register_module(module=Watch)
    yield Watch.stages
    HOOKS.module_dict.pop('Watch')


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory() as made:  # pytest would keep the weights of three runs
        yield Path(made)


def few_images(folder: Path, loader: Config, classes: int, size: int) -> dict:
    """A data set like the loader's: four images of noise in its size, labels from first to last class."""
    images = np.random.default_rng(0).integers(0, 256, (2 * EPOCH, size, size, 3), dtype=np.uint8)
    folder.mkdir(exist_ok=True)
    lines = []
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f'{index}.png')
        lines.append(f'{index}.png {round(index * (classes - 1) / (len(images) - 1))}\n')
    (folder / 'labels.txt').write_text(''.join(lines))
    pipeline = [dict(step, **{key: size for key in ('scale', 'crop_size') if key in step})
                for step in innermost(loader.dataset).pipeline if step.type != 'LoadImageFromFile']
    return dict(type='CustomDataset', data_root=str(folder), ann_file='labels.txt',
                pipeline=[dict(type='LoadImageFromFile'), *pipeline],
                metainfo=dict(classes=[f'class {index}' for index in range(classes)]))


def tiny(name: str, folder: Path) -> Config:
    """The config with one epoch of two batches for each training, and at most two trainings of a kind."""
    config = config_of(name)
    # mmengine mixes up runs of one name that start in one second
    config.work_dir = str(folder / name.replace('/', '_'))
    size, classes = min(SIZES[data_of(config)], 64), config.data_preprocessor.num_classes
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        config[key].dataset = few_images(folder / 'images', config[key], classes, size)
        config[key].update(batch_size=2, num_workers=0, persistent_workers=False)
    trainings = [config, *(config[key] for key in ('teacher', 'heads', 'hint') if config.get(key)),
                 *config.get('assistants', [])]
    for training in trainings:
        if 'train_cfg' in training:
            training.train_cfg.update(max_epochs=1, val_interval=1)
    if config.get('teacher'):
        ensemble = isinstance(config.selector, dict) and 'k' in config.selector
        config.teacher.train_cfg = dict(max_epochs=2 if ensemble else 1)
        config.teacher.snapshots = dict(interval=1)
        config.selector = config.selector if ensemble else 'last'
        config.probe = None
        if config.distill.get('stop_epoch'):
            config.distill.stop_epoch = 1
        if config.distill.get('schedule'):
            config.distill.schedule.end = 1
    for key in ('generations', 'student_alone'):
        if config.get(key):
            config[key] = min(config[key], 2)
    if config.get('assistants'):
        config.assistants = config.assistants[:1]
    config.custom_hooks = config.get('custom_hooks', []) + [dict(type='Watch')]
    return config


def epochs_of(config: Config) -> dict:
    """Trainings of a config, and the epochs of each."""
    if not config.get('teacher'):
        return dict(student=1)
    alone = ('student_alone', 'student_alone_2')[:int(config.get('student_alone') or 0)]
    single = ['student', *(key for key in ('heads', 'hint') if config.get(key)), *alone,
              *(f'assistant_{index + 1}' for index in range(len(config.get('assistants', [])))),
              *(f'generation_{index}' for index in range(1, config.get('generations', 1)))]
    return dict(dict.fromkeys(single, 1), teacher=config.teacher.train_cfg.max_epochs)


@pytest.mark.parametrize('name', TRAINED)
def test_two_iterations_of_every_stage(name, folder, watch):
    config = tiny(name, folder)
    expected, method = epochs_of(config), copy.deepcopy(config)
    summary = CheckpointDistillRunner(config).train()

    assert {stage: len(steps) for stage, (steps, _, _) in watch.items()} == {
        stage: EPOCH * epochs for stage, epochs in expected.items()}
    for stage, (steps, parameters, same) in watch.items():
        assert parameters and not same, stage
        for step in steps:
            parts = [value for part, value in step.items() if part != 'loss']
            assert all(math.isfinite(value) for value in step.values()), stage
            assert step['loss'] == pytest.approx(sum(parts) if parts else step['loss'], rel=1e-4), stage
    taught = [stage for stage in expected if re.match('student$|assistant|generation', stage)]
    for stage in taught if method.get('teacher') else []:
        steps = watch[stage][0]
        # not in each: a warm-up begins without, and both may be sure of one class
        for part in ('loss_ce', 'loss_kd'):
            assert max(step.get(part, 0) for step in steps) > 0, (stage, steps)
        if method.distill.get('distiller'):
            at = [part for part in steps[-1] if part.startswith('loss_at')]
            assert len(at) == len(method.distill.distiller.losses)

    # the published file is the student as mmpretrain builds it
    student = MODELS.build(model_config_of(open_run(method)[0].student_training()))
    file = torch.load(Path(method.work_dir, 'student.pth'), map_location='cpu', weights_only=True)
    student.load_state_dict(file['state_dict'], strict=True)
    assert 0 <= summary['student']['accuracy_top1'] <= 100


# ------------------------------------------------------------ recipes
def in_folder(folder: str, word: str) -> list:
    return [name for name in CONFIGS if name.startswith(f'{folder}/') and word in name]


def recipe(run, stages) -> list:
    """Of teacher and student: see :func:`recipe_of`."""
    return [recipe_of(stage_of(stages, 'teacher').config(run)), recipe_of(run.student_training())]


def recipe_of(training: Config) -> tuple:
    """Epochs, images a step on one GPU, optimiser, epochs at which the learning rate falls, to which part."""
    return (training.train_cfg.max_epochs, training.train_dataloader.batch_size,
            training.optim_wrapper.optimizer.to_dict(), training.param_scheduler.milestones,
            training.param_scheduler.gamma)


SGD = dict(type='SGD', lr=0.1, momentum=0.9)
SMALL_IMAGES = dict(SGD, nesterov=True, weight_decay=5e-4)


@pytest.mark.parametrize('name', in_folder('ckd', 'cifar100'))
def test_cifar100_recipe(name):
    """CheckpointKD, Sec. 3.2 and the authors' code: 200 epochs of batch 128, times 0.1 every 60; Sec. 5:
    snapshots every 10 epochs."""
    run, stages = opened(name)
    teacher, probe = stage_of(stages, 'teacher'), stage_of(stages, 'select').probe
    assert recipe(run, stages) == [(200, 128, SMALL_IMAGES, [60, 120, 180], 0.1)] * 2
    assert teacher.times(run) == list(range(10, 201, 10))
    assert probe is None or probe.probe_split == 'test'
    assert 'split_dataset' not in str(teacher.config(run).train_dataloader.dataset)  # all training images


@pytest.mark.parametrize('name', in_folder('ckd', 'tiny_imagenet'))
def test_tiny_imagenet_recipe(name):
    """CheckpointKD, Sec. 3.2: 150 epochs, half-way at 75."""
    run, stages = opened(name)
    assert recipe(run, stages) == [(150, 128, SMALL_IMAGES, [45, 90, 135], 0.1)] * 2
    assert {75, 150} <= set(stage_of(stages, 'teacher').times(run))


@pytest.mark.parametrize('name, parameters', [
    ('ckd/r34_r18_imagenet', [21_797_672, 11_689_512]),
    ('ckd/r50_mobilenetv2_imagenet', [25_557_032, 3_504_872])])
def test_imagenet_recipe(name, parameters):
    """CheckpointKD, Sec. 3.2: PyTorch's recipe for 120 epochs, batch 256 on 8 GPUs, half-way at 60.
    Parameters: torchvision's."""
    run, stages = opened(name)
    assert recipe(run, stages) == [(120, 256 // 8, dict(SGD, weight_decay=1e-4), [30, 60, 90], 0.1)] * 2
    assert stage_of(stages, 'teacher').times(run) == list(range(10, 121, 10))
    assert [sum(weight.numel() for weight in MODELS.build(model).parameters())
            for model in (run.settings.teacher.model, run.config.model)] == parameters


HEADS = {'res110': 3, 'res20': 3, 'res14': 3, 'res8': 3, 'vgg11': 4, 'res34': 4}  # DIH, Table 1


@pytest.mark.parametrize('name', in_folder('dih', 'cifar') + in_folder('baselines', '_cifar'))
def test_dih_recipe(name):
    """DIH, Sec. 4.1: 200 epochs of batch 64, times 0.1 every 60, tau = 5, alpha = 0.1 on the teachers' side
    (Eq. 5). FitNets, Sec. 4.3: 40 epochs of hints before."""
    run, stages = opened(name)
    distill, teacher, method = run.settings.distill, run.settings.teacher, Path(name).name
    student = run.student_training() if teacher else stage_of(stages, 'student').config(run)
    whole = (200, 64, SMALL_IMAGES, [60, 120, 180], 0.1)
    assert recipe_of(student) == whole
    assert student.randomness.seed == 3
    if teacher:
        assert recipe(run, stages) == [whole, whole] and stage_of(stages, 'teacher').times(run) == [200]
        if not method.startswith(('dkd', 'logit_standardization', 'born_again')):  # these: their own authors'
            assert distill.kd_loss['tau'] == 5 and (distill.kd_weight, distill.ce_weight) == (0.1, 0.9)
    if method.startswith('fitnets'):
        assert stage_of(stages, 'hint').config(run).train_cfg.max_epochs == 40
        assert stage_of(stages, 'student').config(run).train_cfg.max_epochs == 200
    if name.startswith('dih/'):
        outputs = tuple(range(HEADS[method.split('_')[0]]))
        assert run.settings.heads.out_indices == outputs and run.settings.heads.kind == 'flatten'
        assert distill.kd_loss['aggregation'] == 'loss' and distill.reduction == 'mean'
        stage = stage_of(stages, 'heads')
        stage.input_shape = lambda run: (3, 32, 32)
        heads = stage.config(run)
        assert heads.train_cfg.max_epochs == 200 and heads.model.out_indices == outputs
    else:
        assert run.settings.heads is None


ESKD = dict(
    cifar10=((200, 128, dict(SGD, weight_decay=5e-4), [60, 120, 180], 0.2), [10, 20, 30]),
    imagenet=((100, 32, dict(SGD, nesterov=True, weight_decay=1e-4), [30, 60, 90], 0.1), [15, 25, 30]))


@pytest.mark.parametrize('name, data', [(name, data) for data in ESKD for name in in_folder('eskd', data)])
def test_eskd_recipe(name, data):
    """ESKD, Sec. 4: on CIFAR-10 200 epochs, times 0.2 every 60; on ImageNet Nesterov, times 0.1 every 30.
    Sec. 5.5: early-stopped teachers have n = 35 epochs, times 0.2 every floor((n - 5) / 3); on ImageNet times
    0.1 after 15, 25 and 30."""
    run, stages = opened(name)
    whole, stopped = ESKD[data]
    teacher, student = recipe(run, stages)
    assert student == whole
    assert teacher == ((35, *whole[1:3], stopped, whole[4]) if 'early_stopped' in name else whole)
    distill = run.settings.distill
    assert distill.kd_loss['tau'] == 4 and distill.ce_weight == 0.9
    if data == 'cifar10':
        assert distill.kd_weight == 0.1
    else:
        assert distill.stop_epoch == (None if name == 'eskd/r34_r18_imagenet_kd' else 60)


def test_shortened_schedules_are_the_papers():
    """The options that the headers name for other n (ESKD, Sec. 5.5)."""
    found = {}
    for name in ('eskd/wrn16-8_wrn16-1_cifar10_early_stopped', 'eskd/wrn28-8_wrn28-1_cifar10_early_stopped'):
        for options in re.findall(r'teacher\.train_cfg\S+ teacher\.param_scheduler\S+', header(name)):
            run, stages = opened(name, options)
            teacher = stage_of(stages, 'teacher').config(run)
            found.setdefault(teacher.train_cfg.max_epochs, []).append(teacher.param_scheduler.milestones)
    assert found == {epochs: [[(epochs - 5) // 3 * part for part in (1, 2, 3)]] * 2
                     for epochs in (50, 65, 80)}


@pytest.mark.parametrize('name, before, seeds', [
    ('eskd/wrn16-2_generations_cifar10', ['generation'] * 4, [1, 2, 3, 4, 5]),
    ('eskd/wrn16-3_generations_wrn16-1_cifar10', ['assistant'] * 5, [100, 200, 300, 400, 500, 0]),
    ('eskd/wrn16-8_wrn16-3_wrn16-1_cifar10', ['assistant'], [100, 0]),
    ('eskd/r152_r18_r18_imagenet', ['generation'], [1, 2]),
    ('baselines/takd_res34_res8_cifar100', ['assistant'], [103, 3]),
    ('baselines/born_again_res8_cifar100', ['generation'] * 2, [4, 5, 6])])
def test_sequences(name, before, seeds):
    run, stages = opened(name)
    taught = [stage for stage in stages if isinstance(stage, StudentStage) and stage.teachers is not None]
    assert [stage.name for stage in taught] == [
        *(f'{kind}_{number}' for number, kind in enumerate(before, 1)), 'student']
    assert [stage.training(run).randomness.seed for stage in taught] == seeds


@pytest.mark.parametrize('name, options, chosen', [
    ('resnet110_resnet32_cifar100', 'probe=None selector=last', [[200]]),
    ('resnet110_resnet32_cifar100', 'probe=None selector=half_way', [[100]]),
    ('resnet110_resnet32_cifar100', 'probe=None selector.type=fraction selector.fraction=0.3', [[60]]),
    ('resnet110_resnet32_cifar100', 'probe=None selector.type=fraction selector.fraction=0.7', [[140]]),
    ('wrn40-2_wrn40-1_cifar100_ensemble', '', [[100, 200]]),
    ('wrn40-2_wrn40-1_cifar100_ensemble', 'selector.kind=full', [[200], [200]]),
    ('wrn40-2_wrn40-1_cifar100_ensemble', 'selector.kind=mixed', [[100], [200]]),
    ('wrn40-2_wrn40-1_cifar100_ensemble', 'selector.k=4', [[50, 100, 150, 200]]),
    ('wrn40-2_wrn40-1_cifar100_ensemble', 'selector.k=7', [[29, 57, 86, 114, 143, 171, 200]]),
    ('wrn40-2_wrn40-1_tiny_imagenet', '', [[150]]),
    ('wrn40-2_wrn40-1_tiny_imagenet_ensemble', '', [[75, 150]]),
    ('r34_r18_imagenet', 'probe=None selector=half_way', [[60]]),
    ('r34_r18_imagenet', 'probe=None selector.type=ensemble selector.kind=snapshot selector.k=2',
     [[60, 120]]),
    ('r50_mobilenetv2_imagenet', '', [[60]]),
    ('r50_mobilenetv2_imagenet', 'selector=last', [[120]])])
def test_who_teaches(name, options, chosen):
    """The options that the headers name, as given on a command line."""
    run, stages = opened(f'ckd/{name}', options)
    select, trained = stage_of(stages, 'select'), []
    for teacher in select.teachers:
        snapshots = [Snapshot(file=Path('unused'), epoch=epoch) for epoch in teacher.times(run)]
        trained.append(Trajectory(Path('unused'), snapshots, dict(max_epochs=teacher.length(run))))
    selections = select.selector.select_all(trained, [None] * len(trained))
    assert [[snapshot.epoch for snapshot in selection.snapshots] for selection in selections] == chosen


@pytest.mark.parametrize('name', ['ckd/resnet14_resnet8_cifar10_small', 'small/kd'])
def test_small_problem_is_divided_outside(name):
    """Other images, or another number of them, by the options of ``split_dataset``."""
    options = ' '.join(f'train_dataloader.dataset.{option}' for option in (
        'seed=1', 'part=rest', 'held_out=500', 'dataset.pipeline.1.padding=2'))
    shipped, dataset = config_of(name), config_of(name, options).train_dataloader.dataset
    assert [shipped[key].dataset.held_out for key in ('train_dataloader', 'val_dataloader')] == [6000, 4000]
    assert (dataset.type, dataset.seed) == ('ckd_mm.split_dataset', 1)
    assert (dataset.part, dataset.held_out) == ('rest', 500)
    assert dataset.dataset.type == 'ckd_mm.InMemory'
    assert undivided(settled(dataset)).pipeline[1] == dict(type='RandomCrop', crop_size=32, padding=2)


# ------------------------------------------------------------ headers
@cache
def header(name: str) -> str:
    return ast.get_docstring(ast.parse((FOLDER / f'{name}.py').read_text()), clean=False) or ''


def test_headers_have_the_command():
    assert [name for name in ALL if not re.search(
        rf'^    (.*tools/\w+\.(py|sh) configs/{name}\.py\b|make demo$)', header(name), re.MULTILINE)] == []


# ------------------------------------------------------------ schedules are as long as their trainings
@pytest.mark.parametrize('name', CONFIGS)
def test_learning_rates_fall_until_the_end(name):
    run, stages = opened(name)
    for stage in stages:
        if isinstance(stage, TrainingStage):
            config = stage.training(run)
            schedulers, lr = as_list(config.get('param_scheduler')), config.optim_wrapper.optimizer.lr
            assert misfit(schedulers, lr, config.train_cfg.max_epochs, 20) is None
