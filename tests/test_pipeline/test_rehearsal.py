"""What would fail late fails before the first stage, in one line; a rehearsal leaves nothing behind."""

import contextlib
import random
import re
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import HOOKS, RUNNERS
from mmpretrain.engine.hooks import SwitchRecipeHook
from mmpretrain.models.heads import LinearClsHead
from mmpretrain.registry import MODELS

from ckd_mm.errors import ConfigError
from ckd_mm.pipeline import rehearsal, rehearsal_runner
from ckd_mm.pipeline.preflight import Preflight
from ckd_mm.pipeline.rehearsal import rehearsal_of
from ckd_mm.pipeline.rehearsal_runner import RehearsalRunner
from ckd_mm.pipeline.runner import CheckpointDistillRunner
from ckd_mm.students import CheckpointDistill

from ..conftest import STATISTICS, resnet
from ..helpers import (
    BEFORE_STAGES,
    assert_same_weights,
    batch,
    open_logs,
    prepared,
    vision_transformer,
    weights_of,
)

SGD = dict(optimizer=dict(type='SGD', lr=0.05))
PLAIN = dict(selector='last', probe=None)


@MODELS.register_module()
class NoTrainingHead(LinearClsHead):

    def loss(self, feats, data_samples, **kwargs):
        raise NotImplementedError('training with distillation is not supported')


def own(**settings) -> dict:
    """Settings of the student, from which the teacher has its own, right ones."""
    right = dict(optim_wrapper=dict(SGD, _delete_=True), custom_hooks=[], load_from=None)
    return dict(settings, teacher={key: right[key] for key in settings if key in right})


STUDENT = [
    (own(optim_wrapper=dict(optimizer=dict(type='AdamWW', lr=1e-3))),
     r"^student: optim_wrapper.optimizer.type='AdamWW' is registered nowhere; did you mean 'AdamW'\?"),
    (own(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentums=0.9))),
     r"^student: optim_wrapper=\{.*momentums.*\} cannot be built: TypeError: .*'momentums'"),
    (own(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=dict(max_nrom=1),
                            accumulative_counts=4)),
     r"^student: model fails in a training step on 2 images: TypeError: .*max_nrom"),
    (own(custom_hooks=[dict(type='NoSuchHook')]),
     r"^student: custom_hooks.type='NoSuchHook' is registered nowhere"),
    (own(custom_hooks=[dict(type='EMAHook', momentom=0.1)]),
     r"^student: custom_hooks holds EMAHook, whose before_run fails: TypeError: .*'momentom'"),
    (own(custom_hooks=[dict(type='PreciseBNHook', itervals=1)]),
     r"^student: custom_hooks=\{'type': 'PreciseBNHook', 'itervals': 1\} cannot be built: .*'itervals'"),
    (own(load_from=__file__), r'^student: load_from: checkpoint .*test_rehearsal.py cannot be read, it is '
     'damaged or no checkpoint'),
    (dict(model=dict(init_cfg=dict(type='Pretrained', checkpoint=__file__))),
     r'^student: model: checkpoint .* cannot be read, it is damaged or no checkpoint \('),
    (own(custom_hooks=[dict(type='SwitchRecipeHook', schedule=[
        dict(action_epoch=2, loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=7))])]),
     r'^student: custom_hooks: in epoch 2 model fails in a training step on 2 images: AssertionError: '),
    (own(load_from='nowhere.pth'), '^student: load_from: checkpoint nowhere.pth does not exist'),
    (dict(model=dict(init_cfg=dict(type='Pretrained', checkpoint='nowhere.pth'))),
     '^student: model: checkpoint nowhere.pth does not exist'),
    (dict(model=dict(head=dict(type='NoTrainingHead'))),
     r'^student: model fails in a training step on 2 images: NotImplementedError: training with'),
    (dict(test_dataloader=dict(persistent_workers=True)),
     r"^student: test_dataloader=\{.*'persistent_workers': True.*\} cannot be built: .*persistent"),
    (dict(test_evaluator=dict(topk=(1, 11))),
     r"^student: test_evaluator=\{'type': 'Accuracy', 'topk': \(1, 11\)\} fails on .*: Top-11 accuracy is"),
]
ALL = [
    (dict(val_evaluator=dict(topk=(1, 11))),
     r"^teacher: val_evaluator=.*\(1, 11\).* fails on a few images: .*: rehearsal=False$"),
    (dict(train_dataloader=dict(batch_size=400, drop_last=True)),
     r'^teacher: train_dataloader: it has no batch: \d+ images, batch_size=400 and drop_last=True; lower '),
    *((dict({f'{name}_dataloader': dict(batch_size=400, drop_last=True)}),
       f'^{stage}: {name}_dataloader: it has no batch: 100 images, ')
      for stage, name in [('teacher', 'val'), ('student', 'test')]),
    (dict(default_hooks=dict(checkpoint=dict(intervall=5, interval=-1))),
     "^teacher: default_hooks holds CheckpointHook, whose after_train_epoch fails: TypeError: .*intervall"),
    (dict(train_dataloader=dict(sampler=dict(type='DefaultSampel'))),
     r"^teacher: train_dataloader.sampler.type='DefaultSampel' is registered nowhere; did you mean 'Default"),
    (dict(train_cfg=dict(val_intervall=2)),
     r'^teacher: .*train_cfg=.* cannot be built: TypeError: .*val_intervall'),
    (dict(param_scheduler=[dict(type='CosineAnnealingLR', T_maxx=3)]),
     r'^param_scheduler=.* cannot schedule the 3 epochs .* of the teacher: TypeError: .*T_maxx'),
    (dict(param_scheduler=dict(type='OneCycleLR', eta_max=0.1, total_steps=2),
          teacher=dict(train_cfg=dict(max_epochs=5))),
     r'^param_scheduler=.*OneCycleLR.* cannot schedule the 5 .* of the teacher: ValueError: Tried to step'),
    (dict(default_hooks=dict(checkpoint=dict(save_best='accuracy/top7'))),
     r'default_hooks holds CheckpointHook, whose after_val_epoch fails: .*: rehearsal=False$'),
    (dict(visualizer=dict(type='Visualizer', vis_backends=[dict(type='TensorbordVisBackend')])),
     r"^teacher: visualizer.vis_backends\[0\].type='TensorbordVisBackend' is registered nowhere; did"),
    pytest.param(dict(visualizer=dict(type='Visualizer', vis_backends=[dict(type='WandbVisBackend')])),
                 '^teacher: visualizer: WandbVisBackend needs wandb, which is not installed: pip inst',
                 marks=pytest.mark.skipif(find_spec('wandb') is not None, reason='wandb is installed')),
    (dict(train_dataloader=dict(sampler=dict(type='InfiniteSampler', _delete_=True))),
     r"^teacher: train_dataloader: InfiniteSampler goes on after its 4 batches.*take dict\(type='DefaultSam"),
    (dict(val_dataloader=dict(sampler=dict(type='InfiniteSampler', _delete_=True))),
     r'^teacher: val_dataloader: InfiniteSampler goes on after its 1 batches'),
    (dict(test_dataloader=dict(sampler=dict(type='InfiniteSampler', _delete_=True))),
     r'^student: test_dataloader: InfiniteSampler goes on after its 1 batches'),
    (dict(train_dataloader=dict(dataset=dict(pipeline=[dict(type='RandomFlip', prob=0.5)]))),
     r"^teacher: train_dataloader: its batches have no `inputs`; end the pipeline .*dict\(type='PackInputs'"),
    (dict(train_dataloader=dict(dataset=dict(pipeline=[dict(type='RandomFlp')]))),
     r"^train_dataloader.dataset cannot be read: pipeline\[0\].type='RandomFlp' is .*mean 'RandomFlip'\?"),
    (dict(model=dict(head=dict(loss=dict(type='CrosEntropyLoss')))),
     r"^the student network .*: head.loss.type='CrosEntropyLoss' is .* mean '.*CrossEntropyLoss'\?"),
    (dict(optim_wrapper=dict(paramwise_cfg=dict(norm_decay_multt=0.0))),
     "^teacher: optim_wrapper: paramwise_cfg: unknown key 'norm_decay_multt'; did you mean 'norm_decay"),
    (dict(optim_wrapper=dict(paramwise_cfg=dict(custom_keys={'head': dict(lr_mul=0.1)}))),
     r"^teacher: optim_wrapper: paramwise_cfg.custom_keys\['head'\]: unknown key 'lr_mul'; did you mean"),
    (dict(log_processor=dict(custom_cfg=[dict(data_src='loss', method_name='median', window_size=1)])),
     r'^teacher: log_processor=.*median.* cannot log a step: '),
    (dict(default_hooks=dict(checkpoint=dict(out_dir=f'{__file__}/run'))),
     r"^teacher: default_hooks: out_dir='.*test_rehearsal.py/run': .*rehearsal.py is no folder that can"),
    (dict(teacher=dict(custom_hooks=[dict(type='SwitchRecipeHook', schedule=[
        dict(action_epoch=3, train_pipeline=[])])])),
     r'^teacher: teacher.custom_hooks: in epoch 3 train_dataloader: its batches have no `inputs`'),
    (dict(model=dict(train_cfg=dict(augments=dict(type='Mixxup')))),
     r"^the student network .*: train_cfg.augments.type='Mixxup' is registered nowhere; did you .*'Mixup'"),
    (dict(env_cfg=dict(dist_cfg=dict(backend='nncl'))),
     r"^teacher: env_cfg=.*nncl.* does not work: ValueError: dist_cfg.backend is none of gloo, nccl"),
    (dict(model_wrapper_cfg=dict(type='MMDistributedDataParalel')),
     r"^teacher: model_wrapper_cfg.type='MMDistributedDataParalel' is .* mean 'MMDistributedDataParallel'"),
    (dict(compile=dict(backend='induktor')), r"^teacher: compile=\{'backend': 'induktor'\} does not work: "),
    (dict(model=dict(init_cfg='start.pth')),
     r'^student: model cannot be initialised: AssertionError: assert .*\(.*py, line \d+\)$'),
    (dict(model=dict(head=dict(type='StackedLinearClsHead', mid_channels=[4], norm_cfg=dict(type='BN1d'))),
          train_dataloader=dict(batch_size=3)),
     r'^student: model fails in a training step on 1 image: ValueError: Expected more than 1 value'),
]


@pytest.mark.parametrize('change, message', STUDENT + ALL)
def test_fails_before_the_teacher_is_trained(distil_run, change, message):
    config = distil_run(**PLAIN)
    config.merge_from_dict(dict(change))
    with pytest.raises(ConfigError, match=message):
        RUNNERS.build(config).train()
    assert {path.name for path in Path(config.work_dir).iterdir()} == BEFORE_STAGES


@pytest.mark.parametrize('sync_bn, fits', [(None, False), ('torch', True)])
def test_a_last_batch_of_one_where_processes_share_statistics(distil_run, monkeypatch, sync_bn, fits):
    setup_env = RehearsalRunner.setup_env

    def distributed(self, env_cfg):
        setup_env(self, env_cfg)
        self._distributed = True

    monkeypatch.setattr(RehearsalRunner, 'setup_env', distributed)
    config = distil_run(**PLAIN, sync_bn=sync_bn)
    config.model.head.update(type='StackedLinearClsHead', mid_channels=[4], norm_cfg=dict(type='BN1d'))
    config.train_dataloader.batch_size = 3
    with contextlib.nullcontext() if fits else pytest.raises(ConfigError, match='on 1 image: ValueError'):
        CheckpointDistillRunner(config).prepare(Preflight(lambda line: None))


def saved(network: dict, change) -> dict:
    return change(MODELS.build(network).state_dict())


def under(prefix: str):
    return lambda weights: {prefix + name: value for name, value in weights.items()}


NONE = 'has none of the weights of the network'
FILES = {
    'another width': (lambda: saved(resnet(channels=8), under('')), 'load_from',
                      rf'^student: load_from: .*start.pth {NONE}: it has student.backbone.conv1.'
                      r'weight \(8, 3, 3, 3\), and the network student.backbone.conv1.weight \(4, 3, 3, 3\)'),
    'below another key': (lambda: dict(model=saved(resnet(), under(''))), 'load_from',
                          f'start.pth {NONE}: it has .*model, and'),
    'other names': (lambda: saved(resnet(), under('encoder.')), 'load_from', NONE),
    'the backbone alone': (lambda: MODELS.build(resnet()['backbone']).state_dict(), 'load_from', NONE),
    'a whole network for a backbone': (lambda: saved(resnet(), under('')), 'model.backbone.init_cfg',
                                       f'^student: model: the file of its init_cfg {NONE}: it has backbone'),
    'a teacher': (lambda: saved(resnet(), under('')), 'teacher.load_from',
                  f'^teacher: teacher.load_from: .*start.pth {NONE}: it has .*'),
}


def start_from(config: Config, key: str, weights: dict) -> None:
    file = Path(config.work_dir).with_name('start.pth')
    torch.save(weights, file)
    value = dict(type='Pretrained', checkpoint=str(file)) if key.endswith('init_cfg') else str(file)
    if config.teacher is not None:
        config.teacher.load_from = None
    config.merge_from_dict({key: value})


@pytest.mark.parametrize('weights, key, message', FILES.values(), ids=FILES)
def test_a_file_without_the_weights_of_the_network(distil_run, weights, key, message):
    """mmengine logs the names, and trains from random weights."""
    config = distil_run(**PLAIN)
    if key == 'teacher.load_from':
        config.teacher.model = resnet(2, channels=8)
    start_from(config, key, weights())
    with pytest.raises(ConfigError, match=message):
        prepared(config)


@pytest.mark.parametrize('peer', [False, True])
def test_a_file_with_some_weights_of_the_network(distil_run, peer):
    """One with another head, or of the backbone alone, is what fine-tuning starts from; a part of a backbone
    is told."""
    config = distil_run(**PLAIN)
    if peer:
        config.teacher = config.distill = config.selector = None
        config.peer = dict(model=resnet())
    start_from(config, 'load_from', saved(resnet(classes=7), under('module.')))
    assert prepared(config)[1] == []
    weights = saved(resnet(), under(''))
    weights.pop('backbone.conv1.weight')
    start_from(config, 'load_from', weights)
    line, = prepared(config)[1]
    assert 'has only 14 of the 15 weights of the backbone' in line and 'backbone.conv1.weight' in line


@pytest.mark.parametrize('change, doubt', [
    (dict(train_dataloader=dict(sampler=dict(shuffle=False))), 'teacher: .*sampler does not shuffle'),
    (dict(train_dataloader=dict(sampler=None)), r'^teacher: train_dataloader.sampler does not shuffle'),
    (dict(optimizer=dict(type='Adam')), 'optimizer is a key of mmcv 1.x, .* mmengine has optim_wrapper.opt'),
    (dict(distill=dict(kd_weight=0.0), model=dict(head=dict(loss=dict(loss_weight=0.0)))),
     '^student: the loss of the first step is 0, of which nothing is learnt: loss_ce'),
    (dict(custom_hooks=[dict(type='EarlyStoppingHook', monitor='acc')]),
     r'^teacher: EarlyStoppingHook: Skip early stopping process since the evaluation results'),
    *((dict(val_dataloader=None, val_evaluator=None, val_cfg=None, **waiting), doubt) for waiting, doubt in [
        (dict(custom_hooks=[dict(type='EarlyStoppingHook', monitor='accuracy/top1')]),
         '^teacher: EarlyStoppingHook waits for accuracy/top1 in vain, nothing is validated; give '),
        (dict(param_scheduler=dict(type='ReduceOnPlateauLR', monitor='loss')),
         '^teacher: ReduceOnPlateauLR waits for loss in vain')]),
    (dict(default_hooks=dict(checkpoint=dict(save_best='accuracy/top1')), train_cfg=dict(val_begin=9)),
     r"^student: CheckpointHook waits for \['accuracy/top1'\] in vain"),
    (dict(test_dataloader=dict(batch_size=60, drop_last=True)),
     '^student: test_dataloader.drop_last=True leaves 40 of 100 images out of the evaluation'),
    (dict(val_dataloader=dict(dataset=dict(pipeline=[
        dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]))),
     '^teacher: val_dataloader.dataset.pipeline is random: no two evaluations are of the same images'),
    (dict(test_dataloader=dict(dataset=dict(split='train', indices=64))),
     '^test_dataloader.dataset is that of train_dataloader: what is measured on it was trained on'),
    (dict(test_evaluator=None), '^test_dataloader and test_evaluator: one is there without the other'),
    (dict(custom_hooks=[dict(type='SwitchRecipeHook', schedule=[
        dict(action_epoch=2, batch_augments=dict(augments=dict(type='Mixup', alpha=0.8)))])]),
     '^teacher: batch augmentations change nothing without data_preprocessor.to_onehot=True'),
    (dict(distill=dict(kd_weight=0.0)), '^student: distill.kd_weight=0, so that no teacher teaches'),
    (dict(train_dataloader=dict(dataset=dict(pipeline=[
        dict(type='Normalize', mean=[77.9] * 3, std=[95.9] * 3), dict(type='PackInputs')]))),
     r'^teacher: data_preprocessor has mean=\[77.9, .*, which are of images of 0 to 255, and .* to 1.8'),
    (dict(optim_wrapper=dict(optimizer=dict(lr=0))), '^teacher: nothing is learnt: each parameter is frozen'),
    (dict(optim_wrapper=dict(paramwise_cfg=dict(custom_keys={
        'backbone': dict(lr_mult=0), 'head': dict(lr_mult=0)}))), '^teacher: nothing is learnt'),
    (dict(total_epochs=3), 'total_epochs is a key .* mmengine has train_cfg.max_epochs'),
    (dict(optim_wrapper=dict(paramwise_cfg=dict(custom_keys={'bacbone': dict(lr_mult=0.1)}))),
     r"^teacher: no parameter has any of the names .*custom_keys, \['bacbone'\]; the first is backbone"),
    (dict(data_preprocessor=dict(mean=[0.48] * 3, std=[0.25] * 3)),
     r'^teacher: data_preprocessor has mean=\[0.48, .*\] and std=\[0.25, .* up to 255: .* times 255'),
])
def test_trainings_that_are_hardly_meant(distil_run, change, doubt):
    config = distil_run(**PLAIN)
    config.merge_from_dict(change)
    assert re.match(doubt, prepared(config)[1][0])


def test_a_hook_that_changes_images_changes_no_other_stage(distil_run):
    """Stages share data sets while they are checked: the student's images stay those of its config."""
    config = distil_run(**PLAIN)
    config.model = vision_transformer()
    config.teacher.custom_hooks = [dict(type='SwitchRecipeHook', schedule=[
        dict(action_epoch=2, train_pipeline=[dict(type='Resize', scale=16), dict(type='PackInputs')])])]
    assert prepared(config)[1] == []


@HOOKS.register_module()
class WorkingHook(Hook):
    epochs: list[int] = []

    def before_train_epoch(self, runner) -> None:
        self.epochs.append(runner.epoch)
        time.sleep(0.02)


@pytest.mark.parametrize('longest, epochs', [(10, [0, 1, 2, 0, 1]), (0.03, [0, 1, 0, 1])])
def test_a_hook_that_works_in_each_epoch_does_so_in_few(distil_run, monkeypatch, longest, epochs):
    monkeypatch.setattr(rehearsal_runner, 'LONGEST', longest)
    monkeypatch.setattr(WorkingHook, 'epochs', [])
    prepared(distil_run(**PLAIN, custom_hooks=[dict(type='WorkingHook')]))
    assert WorkingHook.epochs == epochs, 'three of the teacher and two of the student'


def test_a_teacher_without_checkpoints(distil_run):
    assert prepared(distil_run(**PLAIN, default_hooks=dict(checkpoint=None)))[1] == []


def test_hooks_find_the_head_of_a_distilled_student():
    """mmpretrain's SwitchRecipeHook changes the loss of ``runner.model.head``."""
    model = CheckpointDistill(resnet(), kd_weight=0.0, data_preprocessor=dict(STATISTICS))
    hook = SwitchRecipeHook([dict(action_epoch=1, loss=dict(type='LabelSmoothLoss', label_smooth_val=0.5))])
    before = model.loss(**model.data_preprocessor(batch(), training=True))['loss']
    hook.before_train_epoch(SimpleNamespace(model=model, epoch=0, logger=MMLogger.get_current_instance()))
    assert model.loss(**model.data_preprocessor(batch(), training=True))['loss'] != before


def test_parameters_that_no_loss_reaches(distil_run, monkeypatch):
    """DDP waits for their gradients, in the second step."""
    model = resnet(2, channels=4)
    model['backbone']['out_indices'], model['head']['in_channels'] = [0], 4
    config = distil_run(**PLAIN, model=model)
    assert any('no loss reaches student.backbone.layer2' in line for line in prepared(config)[0])
    monkeypatch.setattr(rehearsal, 'is_distributed', lambda: True)
    Path(config.work_dir).mkdir()
    with pytest.raises(ConfigError, match='no loss reaches .*; .* set find_unused_parameters=True'):
        prepared(config)
    config.find_unused_parameters = True
    prepared(config)


@pytest.mark.parametrize('settings, key', [
    ({}, 'find_unused_parameters'), (dict(find_unused_parameters=True), None),
    (dict(find_unused_parameters=True, model_wrapper_cfg=dict(broadcast_buffers=False)),
     'model_wrapper_cfg.find_unused_parameters'),
    (dict(model_wrapper_cfg=dict(find_unused_parameters=True)), None),
    (dict(model_wrapper_cfg=dict(static_graph=True)), None)])
def test_where_mmengine_reads_that_there_are_such_parameters(settings, key):
    """Only from the wrapper, where one is given."""
    found = rehearsal.unreached_parameters(
        'student', SimpleNamespace(cfg=Config(settings), unreached=['neck.weight']), lambda key: key)
    assert found == (key and f'; no loss reaches neck.weight; on several processes set {key}=True' or '')


def trained(config: Config) -> None:
    """From the same random states, and a seed that is drawn."""
    config.randomness = dict(seed=None)
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    RUNNERS.build(config).train()


def test_a_run_is_the_same_bit_for_bit_without_it(distil_run, tmp_path):
    files = {}
    for name, on in (('with', True), ('without', False)):
        trained(distil_run(work_dir=tmp_path / name, heads=dict(out_indices=[0]), student_alone=1,
                           rehearsal=on))
        files[name] = sorted(path.relative_to(tmp_path / name).as_posix()
                             for path in (tmp_path / name).rglob('*.pth'))
    assert files['with'] == files['without'] and len(files['with']) > 8
    for file in files['with']:
        assert_same_weights(weights_of(tmp_path / 'with' / file), weights_of(tmp_path / 'without' / file))
    assert not [file for file in open_logs() if str(tmp_path) in file]
    named = [*MMLogger._instance_dict, *MessageHub._instance_dict]
    assert named and not [name for name in named if 'rehearsal' in name]


def test_folders_of_killed_rehearsals_are_removed(distil_run, monkeypatch):
    config = distil_run()
    left = Path(config.work_dir, '.rehearsal_of_a_killed_process', 'teacher')
    left.mkdir(parents=True)
    monkeypatch.setattr(rehearsal, 'is_distributed', lambda: True)  # then they are in the work_dir
    with rehearsal_of(CheckpointDistillRunner(config).prepare(Preflight(print))[0]) as scratch:
        assert scratch.work_dir.parent == Path(config.work_dir) and not left.parent.exists()


def test_finished_stages_are_not_rehearsed(distil_run):
    config = distil_run(heads=dict(out_indices=[0]))
    RUNNERS.build(config).train(until='heads')
    config.resume = True
    lines, _ = prepared(config)
    assert [line.split(': rehearsal')[0] for line in lines if ': rehearsal' in line] == ['[ ok ] student']
