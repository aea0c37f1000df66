"""Every bad input is one clear error before anything is trained, and nothing already there is lost."""

import importlib.util
import re
from argparse import Namespace
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import RUNNERS

from ckd_mm.cli import load_config
from ckd_mm.compat import EnvironmentConflict
from ckd_mm.errors import ConfigError, DivergedError, SnapshotError
from ckd_mm.infoplane.probe import Probe, probe_trajectory
from ckd_mm.pipeline.build import open_run, stage_of
from ckd_mm.registry import MODELS
from ckd_mm.teachers import BaseCohort
from ckd_mm.trajectory import write_snapshot

from ..conftest import DEMO, ROOT, resnet
from ..helpers import feature_distiller, trajectory, vision_transformer

SETTINGS = [
    (dict(distill=dict(tau=0)), r'distill.tau=0 should be a finite number, at least 0.01'),
    (dict(distill=dict(tau=-4.0)), r'tau=-4.0'),
    (dict(distill=dict(kd_weight=-0.1)), r'distill.kd_weight=-0.1 should be a finite number, at least 0'),
    (dict(distill=dict(ce_weight=-1)), r'distill.ce_weight=-1'),
    (dict(distill=dict(aggregation='mean')),
     r"aggregation='mean' should be one of \('prob', 'logit', 'loss'\)"),
    (dict(distill=dict(teacher_weights=[1, -1])), r'teacher_weights=-1'),
    (dict(selector=dict(type='ensemble', kind='full', k=2), distill=dict(teacher_weights=[1, 2, 3])),
     r'distill.teacher_weights=\[1, 2, 3\] should be 2 numbers, one for each teacher'),
    (dict(distill=dict(teacher_weights=[1, 2])),
     r'distill.teacher_weights=\[1, 2\] should be 1 numbers?, one for each teacher'),
    (dict(distill=dict(stop_epoch=3)), r'distill.stop_epoch=3 should be a whole number of epochs, 0 to 2'),
    (dict(distill=dict(alpha=0.9)), r"distill: unknown key 'alpha'; known are tau,"),
    (dict(heads=dict(out_indicies=[0])),
     r"heads: unknown key 'out_indicies'; did you mean 'out_indices'\? Known are out_indices,"),
    (dict(selector='best'),
     r"selector: type='best' should be one of \['calibration', 'cmi', 'ensemble', 'epoch'"),
    (dict(selector=dict(type='epoch', epochs=[2, 7])),
     r'wants epochs \[2, 7\], but the trajectory has no snapshot at \[7\]; it has \[1, 2, 3\]'),
    (dict(distill=dict(fast_teachers='no')), r"distill: unknown key 'fast_teachers'; known are tau,"),
    (dict(selector=dict(type='even', k=0)), r'k=0 should be a whole number, at least 1'),
    (dict(selector=dict(type='even', n=2)), r'selector: even does not take these settings'),
    (dict(selector=dict(type='fraction', fraction=1.5)),
     r'fraction=1.5 should be a finite number, above 0, at most 1'),
    (dict(probe=None), r'probe=None, but the selector .* needs the information plane'),
    (dict(probe=dict(probe_split='train')), r"probe_split='train' should be one of"),
    (dict(probe=dict(decoder_epochs=0)), r'decoder_epochs=0'),
    (dict(probe=dict(depth=3)), r"probe: unknown key 'depth'; known are probe_split, held_out"),
    (dict(teacher=dict(snapshots=dict(interval=0))), r'interval=0'),
    (dict(teacher=dict(snapshots=dict(epochs=[9]))), r'asks for epoch 9, but the run ends after 3 epochs'),
    (dict(teacher=dict(snapshots=dict(interval=1, phases=2))), 'exactly one of interval, epochs, iters, pha'),
    (dict(teacher=dict(model=None)), r'teacher.model is missing'),
    (dict(teacher=dict(nodel=resnet())), r"teacher: unknown key 'nodel'"),
    (dict(teacher=dict(model=resnet(2, classes=9))),
     r'teacher.model.head.num_classes=9 and model.head.num_classes=10 should be equal'),
    (dict(teacher=dict(model=dict(type='ImageClassifier', backbone=dict(type='NoNet')))),
     r'the teacher network cannot be built'),
    (dict(heads=dict(out_indices=[0, 5])), r'out_indices=\[0, 5\].*0 to 1|out_indices=\[0, 5\].*\[0, 1\]'),
    (dict(heads=dict(out_indices=[])),
     r'^heads: model: out_indices=\[\] should be a list of one or more outputs of the backbone'),
    (dict(heads=dict(out_indices=[1, 1])), r'out_indices=\[1, 1\] should be .* each once'),
    (dict(heads=dict(kind='pool')),
     r'heads: give either out_indices=\(...\), the stages .*, or file=..., .*; not none of them'),
    (dict(heads=dict(out_indices=[0], file='heads.pth')),
     r'heads: give either out_indices=\(...\), .* or file=..., .*; not both'),
    (dict(heads=dict(out_indices=[0], kind='conv')), r"kind='conv'"),
    (dict(heads=dict(out_indices=[0], use=['teacher', 1])),
     r"^heads.use=\['teacher', 1\] should list one or more of \[0, 'teacher'\], the heads by their out_ind"),
    (dict(heads=dict(file='nowhere.pth')),
     r"heads.file='nowhere.pth' does not exist; name the heads.pth of a run"),
    (dict(heads=dict(out_indices=[0]), selector=dict(type='even', k=2), probe=None),
     r'heads: they are mounted on one snapshot, but the selector .* chooses 2'),
    (dict(heads=dict(out_indices=[0, 1]), distill=dict(teacher_weights=[1, 1])),
     r'distill.teacher_weights=\[1, 1\] should be 3 numbers, one for each teacher'),
    (dict(generations=0), r'generations=0 should be a whole number, at least 1'),
    (dict(generations=-1), r'generations=-1 should be'),
    (dict(generations='2'), r"generations='2' should be a whole number"),
    (dict(generations=2, distill=dict(schedule=dict(type='ckd_mm.ProgressiveTeacherHook')),
          selector=dict(type='even', k=2), probe=None),
     r'ProgressiveTeacherHook walks along one trajectory; it cannot be combined with assistants or '
     r'generations'),
    (dict(assistants=dict(model=resnet())), r'assistants=.* should be a list of dict\(model='),
    (dict(assistants=[dict(train_cfg=dict(max_epochs=1))]), r'assistants\[0\].model is missing'),
    (dict(assistants=[dict(model=resnet(classes=9))]),
     r'assistant 1.model.head.num_classes=9 and model.head.num_classes=10 should be equal'),
    (dict(assistants=[dict(model=resnet(), train_cfg=dict(max_epochs=1))], distill=dict(stop_epoch=2)),
     r'assistant 1, 1 epochs: .*stop_epoch=2'),
    (dict(hint=dict(train_cfg=dict(max_epochs=1))), r'hint.distiller is missing'),
    (dict(heads=dict(out_indices=[0], train_cfg=dict(max_epochs=0))),
     r'heads.train_cfg.max_epochs=0 should be a whole number, at least 1'),
    (dict(heads=dict(out_indices=[0], use=[0, 0])), r'^heads.use=\[0, 0\] should list .* each once'),
    (dict(val_evaluator=dict(type='KDMetric')),
     r"^student: val_evaluator.type='KDMetric' is registered nowhere; did you mean 'ckd_mm.KDMetric'\?"),
    (dict(val_evaluator=dict(type='ckd_mm.KDMetric', tau=-1)),
     r'^student: val_evaluator: KDMetric: tau=-1 should be'),
    (dict(val_evaluator="[dict(type='Accuracy')]"), r'val_evaluator: .* should be a metric'),
    (dict(teacher=dict(val_evaluator=dict(type='Acuracy'))),
     r"teacher.val_evaluator.type='Acuracy' is registered nowhere; did you mean 'Accuracy'\?"),
    (dict(student_alone=-2), r'student_alone=-2 should be a whole number, at least 0'),
    (dict(distill=dict(reduction='max')), r"distill.reduction='max' should be one of \('mean', 'sum'\)"),
    (dict(distill=dict(loss=dict(type='ckd_mm.DecoupledKDLoss'))),
     r'distill.tau=4.0 is a setting of the usual loss, and distill.loss names'),
    (dict(peer=dict(model=resnet())), r'^teacher, probe, selector: with `peer` the networks learn from each '
     r'other.*; take them out, .* teacher=None probe=None'),
    (dict(assistents=[]), r'assistents is no key of a distillation config; did you mean assistants'),
    (dict(head=dict(out_indices=(0, 1))), r'head is no key of a distillation config; did you mean heads\?'),
    (dict(optim_wrapper=dict(optimizer=dict(lr='1e-3'))),
     r"^optim_wrapper.optimizer.lr='1e-3' should be a finite number, at least 0"),
    (dict(env_cfg=dict(cudnn_benchmrk=True)),
     "^env_cfg: unknown key 'cudnn_benchmrk'; did you mean 'cudnn_benchmark'\\?"),
    (dict(teacher=dict(auto_scale_lr=dict(enabled=True))),
     "^teacher.auto_scale_lr: unknown key 'enabled'; did you mean 'enable'\\?"),
    (dict(teacher='r34.py'), r"^teacher='r34.py' should be a dict with keys of model, snapshots, trajectory"),
    (dict(teacher=dict(model='r34.py')),
     r"^teacher.model='r34.py' cannot be found .*; did you mean dict\(cfg_path='r34.py'\)\?"),
    (dict(teacher=dict(train_cfg='60')), r"^teacher.train_cfg='60' should be a dict, say dict\(max_epochs="),
    (dict(probe='test'), r"^probe='test' should be a dict with keys of probe_split"),
    (dict(distill='dkd'), r"^distill='dkd' should be a dict with keys of tau"),
    (dict(heads=(0, 1)), r'^heads=\(0, 1\) should be a dict with keys of out_indices'),
    (dict(hint='layer1'), r"^hint='layer1' should be a dict with keys of distiller"),
    (dict(assistants=['r26.py']), r"^assistants\[0\]='r26.py' should be a dict with keys of model"),
]


@MODELS.register_module()
class FailingCohort(BaseCohort):

    def __init__(self, snapshots: list, model: dict) -> None:
        super().__init__()
        self.networks = torch.nn.ModuleList([torch.nn.Linear(1, 1)])

    def expect_inputs_of(self, preprocessor) -> None:
        pass

    def member_logits(self, inputs) -> list:
        raise KeyError('lost')


PLAIN = dict(selector='last', probe=None)
ALONE = dict(teacher=None, probe=None, selector=None)
NOWHERE = dict(type='CustomDataset', data_root='nowhere', data_prefix='train',
               pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])
DIGITS = dict(type='ckd_mm.Digits', split='train', indices=64, pipeline=[dict(type='PackInputs')])
NO_AMP = r'^teacher: optim_wrapper=.*AmpOptimWrapper.* cannot be built: AssertionError: .* only available'
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU')
MORE = [
    (dict(seletor='last'), r'seletor is no key of a distillation config; did you mean selector'),
    (dict(ALONE, distill=dict(kd_weight=0.9)),
     r'distill: with teacher=None nothing is distilled, .*; take it out, .*--cfg-options distill=None'),
    (dict(ALONE, distill=None, selector='last', student_alone=True),
     r'selector, student_alone: with teacher=None nothing is distilled'),
    (dict(ALONE, peer=dict(mdoel=resnet())),
     r"peer: unknown key 'mdoel'; did you mean 'model'\? Known are model"),
    (dict(ALONE, peer=dict(model=resnet(classes=9))), r'num_classes=9'),
    (dict(ALONE, peer=dict(model=resnet()), distill=dict(ce_weight=-1)), r'distill.ce_weight=-1'),
    (dict(ALONE, peer=dict(model=resnet()), distill=dict(stop_epoch=1)),
     r"unknown key 'stop_epoch'; known are tau, ce_weight, kd_weight"),
    (dict(PLAIN, model=dict(train_cfg=dict(augments=dict(type='Mixup', alpha=0.8))),
          distill=dict(tau=None, loss=dict(type='ckd_mm.DecoupledKDLoss'))),
     r'distill.loss=.*DecoupledKDLoss.*: the loss needs one label an image, and the batch has shares'),
    (dict(PLAIN, distill=dict(tau=None, loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1))),
     r'distill.loss=.*LabelSmoothLoss.* fails in a training step on 2 images: \w+: '),
    (dict(PLAIN, distill=dict(cohort=dict(type='ckd_mm.FailingCohort'))),
     r"distill.cohort=.*FailingCohort.* fails in a training step on 2 images: KeyError: 'lost'"),
    (dict(teacher=dict(model=dict(resnet(2), head=dict(resnet(2)['head'], in_channels=99)))),
     r'^teacher: teacher.model fails in a training step on 2 images: RuntimeError: .*mat1 and'),
    (dict(custom_hooks=[dict(type='ckd_mm.InfoPlaneHook', interval=1)]),
     r'custom_hooks: InfoPlaneHook stands for what'),
    (dict(custom_hooks=[dict(type='ckd_mm.SnapshotHook', interval=1)]),
     r'custom_hooks: SnapshotHook stands for what'),
    (dict(teacher=dict(custom_hooks=[dict(type='ckd_mm.SnapshotHook', interval=1)])),
     r'teacher.custom_hooks: SnapshotHook stands for what'),
    (dict(train_dataloader=dict(dataset=NOWHERE)),
     r'train_dataloader.dataset cannot be read: FileNotFoundError: .*nowhere'),
    (dict(PLAIN, train_dataloader=dict(dataset=NOWHERE),  # the student's, needed after the teacher's training
          teacher=dict(train_dataloader=dict(dataset=dict(DIGITS, _delete_=True)))),
     r'train_dataloader.dataset cannot be read: FileNotFoundError: .*nowhere'),
    pytest.param(dict(optim_wrapper=dict(type='AmpOptimWrapper')), NO_AMP, marks=without_gpu),
    pytest.param(dict(optim_wrapper=dict(type=AmpOptimWrapper)), NO_AMP, marks=without_gpu),
]


SEVERAL = dict(resnet(), head=dict(type='MultiLabelLinearClsHead', num_classes=10, in_channels=4))
MORE += [
    (dict(probe=dict(layer='backbone.layer3')),
     "probe.layer='backbone.layer3' is no module of ImageClassifier; did you mean 'backbone.layer2'"),
    (dict(PLAIN, model=SEVERAL),
     'the student network has a MultiLabelLinearClsHead: networks are compared here by the softmax'),
    (dict(teacher=dict(model=SEVERAL)), 'the teacher network has a MultiLabelLinearClsHead'),
    (dict(PLAIN, assistants=[dict(model=SEVERAL)]), 'the assistant 1 network has a MultiLabelLinearClsHead'),
    (dict(ALONE, distill=None, peer=dict(model=SEVERAL)), 'the peer network has a MultiLabelLinearClsHead')]


def refused(config, message, error=ConfigError):
    with pytest.raises(error, match=message):
        RUNNERS.build(config).train()
    assert not list(Path(config.work_dir).rglob('*.pth')), 'nothing should be trained'


@pytest.mark.parametrize('change, message', SETTINGS + MORE)
def test_settings(distil_run, change, message):
    config = distil_run()
    for key, value in change.items():
        merged = isinstance(value, dict) and key not in ('selector', 'val_evaluator')
        config[key] = {**config.get(key, {}), **value} if merged else value
    refused(config, message)

EVERYDAY = [
    # a text, a number or None where a dict is due
    *[(key, value, f'^{key}={re.escape(repr(value))} should be a dict') for key, value in [
        ('teacher.train_dataloader', 'x'), ('train_dataloader', 64), ('val_dataloader', [1]),
        ('train_cfg', 60), ('optim_wrapper', 'SGD'), ('optim_wrapper.optimizer', 'SGD'),
        ('data_preprocessor', [1]), ('default_hooks', [1]), ('default_hooks.checkpoint', 3),
        ('model.head', 10), ('model.backbone', 'r18'),
        ('train_dataloader.dataset', 'x'), ('train_dataloader.sampler', 'x'),
        ('val_cfg', True), ('randomness', 0), ('auto_scale_lr', True), ('env_cfg', 'x'), ('visualizer', 'x'),
        ('log_processor', 10), ('model_wrapper_cfg', 'DDP'), ('teacher.model', [1]),
        ('teacher.optim_wrapper.optimizer', 'SGD'), ('teacher.train_dataloader.dataset', 'x'),
        ('distill', []), ('distill.loss', 'dkd'), ('distill.cache', True), ('student_snapshots', 5)]],
    # another kind of value, or one out of bounds
    *[(key, value, f'^{key}={re.escape(repr(value))} should be {expected}') for key, value, expected in [
        ('selector', 3, 'a str or a dict'), ('assistants', 'r26.py', 'a list'), ('custom_hooks', 3, 'a list'),
        ('randomness.seed', 'x', 'a whole number, at least 0'), ('randomness.seed', -1, 'a whole number'),
        ('teacher.randomness.seed', 1.5, 'a whole number'), ('randomness.deterministic', 1, 'True or False'),
        ('train_cfg.max_epochs', '60', 'a whole number, at least 1'), ('train_cfg.max_epochs', -1, 'a whole'),
        ('train_cfg.val_interval', 0, 'a whole number, at least 1'), ('train_cfg.by_epoch', 'x', 'True or'),
        ('teacher.train_cfg.max_epochs', 2.5, 'a whole number'), ('resume', 3, 'a bool or a str or a Path'),
        ('train_dataloader.batch_size', 'x', 'a whole number'), ('launcher', 'torchrun', 'one of'),
        ('test_dataloader.batch_size', 0, 'a whole number'), ('load_from', 3, 'a str or a Path'),
        ('val_dataloader.num_workers', -1, 'a whole number'), ('param_scheduler', 3, 'a list or a dict'),
        ('teacher.train_dataloader.drop_last', 'x', 'True or False'), ('log_level', 'x', 'one of'),
        ('optim_wrapper.accumulative_counts', 0, 'a whole'), ('find_unused_parameters', 'x', 'True or'),
        ('auto_scale_lr.base_batch_size', '8x16', 'a whole number'), ('compile', 'x', 'a bool or a dict'),
        ('default_scope', 3, 'a str'), ('sync_bn', 'torhc', 'one of'),
        ('teacher.trajectory', [1], 'a folder or several'), ('teacher.load_from', [1], 'a str or a Path'),
        *[('probe.held_out', value, 'a fraction between 0 and 1, or a whole number of images$')
          for value in (1.0, 1e9, 2.5)], ('probe.held_out', '0.1', 'a finite number'),
        ('optim_wrapper.optimizer.lr', float('nan'), 'a finite number, at least 0'),
        ('teacher.optim_wrapper.clip_grad.max_norm', 0, 'a finite number, above 0'),
        ('distill.tau', 1e10, 'a finite number, at least 0.01, at most 1000'),
        ('distill.kd_weight', 1e9, 'a finite number, at least 0, at most 1000000.0'),
        ('default_hooks.checkpoint.interval', 0, 'a whole number, at least 1, or -1: a run that is stopped'),
        ('teacher.default_hooks.checkpoint.interval', 0, 'a whole number, at least 1, or -1'),
        ('default_hooks.checkpoint.interval', 'x', 'a whole number'),
        ('distill.tau', 'hot', 'a finite number'), ('distill.kd_weight', [1], 'a finite number'),
        ('probe.num_images', -1, 'a whole number'), ('distill.teacher_weights', 0.5, 'a list'),
        ('student_alone', 'x', 'a whole number, at least 0$')]],
    ('distill', dict(ce_weight=0, kd_weight=0), '^distill.kd_weight=0 and distill.ce_weight=0: nothing is'),
    # with an example of what is meant
    ('train_dataloader', 'x', r"^train_dataloader='x' should be a dict, say dict\(batch_size=64, dataset="),
    ('model', 'r18.py', r"^model='r18.py' should be a dict, say dict\(type='ImageClassifier', "),
    ('custom_hooks', ['EMA'], r"^custom_hooks\[0\]='EMA' should be a dict"),
    # what is missing, misspelled, or counts iterations
    ('model', None, r"^model is missing: .*; give model=dict\(type='ImageClassifier'"),
    ('train_cfg', None, '^train_cfg.max_epochs is missing: the student is trained by epochs'),
    ('train_dataloader', None, '^train_dataloader.dataset is missing'),
    ('train_dataloader', {}, '^train_dataloader.dataset is missing'),
    ('teacher.train_cfg', None, '^teacher.train_cfg.max_epochs is missing: the teacher is trained by epochs'),
    ('teacher.train_dataloader', None, '^teacher.train_dataloader.dataset is missing'),
    ('train_cfg.max_iters', 100, '^train_cfg.max_iters=100 counts iterations'),
    ('teacher.train_cfg.type', 'IterBasedTrainLoop', '^teacher.train_cfg.max_epochs=3 counts epochs'),
    ('test_dataloader', {}, "evaluation|test set|test_dataloader"),
    ('selector', '', "^selector: type='' should be one of"),
    ('distill.schedule', dict(type=''), "^distill.schedule: type='' should be one of"),
    ('custom_hook', [dict(type='EMAHook')], '^custom_hook is no key of mmengine; did you mean custom_hooks'),
    ('optim_wraper', dict(type='OptimWrapper'), '^optim_wraper is no key of mmengine; did you mean optim'),
    ('model_wraper_cfg', {}, '^model_wraper_cfg is no key of mmengine; did you mean model_wrapper_cfg'),
    ('teacher.train_cfg.by_epoch', {}, '^teacher.train_cfg.by_epoch=.* should be True or False'),
]


@pytest.mark.parametrize('key, value, message', EVERYDAY)
def test_everyday_mistakes_of_a_config(distil_run, key, value, message):
    config = distil_run(**PLAIN)
    *outer, inner = key.split('.')
    place = config
    for part in outer:
        place[part] = place.get(part) or ConfigDict()
        place = place[part]
    place[inner] = value
    refused(config, message)


CONFIGS = {
    'syntax.py': (b'a = 1\nb = dict(\n', r'\({file}\): SyntaxError: .*line 2\)'),
    'name.py': (b'a = 1\n\nb = missing.value\n', r"\({file}, line 3\): NameError: name 'missing' is not"),
    'derived.py': (b'_base_ = "name.py"\n', r"\(\S+/name.py, line 3\): NameError: name 'missing' is not"),
    'base.py': (b'_base_ = "no.py"\n', r'\(\S+/no.py\): FileNotFoundError: .*no.py'),
    'bytes.py': (b'\xff\xfe', r'\({file}\): UnicodeDecodeError'),
    'text.txt': (b'hello', r'\({file}\): OSError: Only py/yml/yaml/json'),
    'cut.json': (b'{"a":', r'\({file}\): JSONDecodeError'),
    'imports.py': (b'custom_imports = dict(imports=["no_such"])', r": ImportError: .*no_such"),
}


@pytest.mark.parametrize('name', CONFIGS)
def test_configs_that_cannot_be_read(tool, tmp_path, name):
    for file, (content, _) in CONFIGS.items():
        (tmp_path / file).write_bytes(content)
    status, _, error = tool('train.py', tmp_path / name)
    file = re.escape(str(tmp_path / name))
    message = CONFIGS[name][1].replace('{file}', file)
    assert status == 1 and re.fullmatch(rf'error: config {file} cannot be read.*', error.strip())
    assert re.search(message, error)


@pytest.mark.parametrize('name, arguments, message', [
    ('train.py', ['configs/dih/nothing.py'], 'config configs/dih/nothing.py does not exist'),
    ('doctor.py', ['configs/dih/nothing.py'], 'config configs/dih/nothing.py does not exist'),
    ('train.py', [DEMO, '--cfg-options', 'distill.tau=0'], 'distill.tau=0 should be a finite number, at l'),
    ('train.py', [DEMO, '--cfg-options', 'x'], '--cfg-options x: should be KEY=VALUE, say distill.tau=2'),
    ('train.py', [DEMO, '--cfg-options', 'a=[1,(2]'], '--cfg-options a=[1,(2]: should be KEY=VALUE'),
    ('train.py', [DEMO, '--cfg-options', 'optim_wraper.optimizer.lr=1'], "did you mean 'optim_wrapper'?"),
    ('train.py', [DEMO, '--cfg-options', 'model.head.num_classes.x=3'],
     "--cfg-options model.head.num_classes.x=3: TypeError: num_classes={'x': 3} in child config cannot"),
    ('train.py', [DEMO, '--cfg-options', 'train_dataloader.dataset.pipeline.9.type=x'], 'Index 9 exceeds'),
    ('train.py', [DEMO, '--cfg-options', 'work_dir=3'], 'work_dir=3 should be a str or a Path'),
    ('train.py', [DEMO, '--cfg-options', 'runner_type=x'], "cannot be built: KeyError: 'x is not in the"),
    ('train.py', [DEMO, '--cfg-options', 'auto_scale_lr=None', '--auto-scale-lr'], '--auto-scale-lr needs'),
    ('train.py', [DEMO, '--work-dir', __file__], f'work_dir={__file__!r}: {__file__} is no folder that can'),
    ('doctor.py', [DEMO, '--work-dir', f'{__file__}/run'], f'{__file__} is no folder that can be written'),
    ('doctor.py', [DEMO, '--cfg-options', 'teacher=r34.py'], "teacher='r34.py' should be a dict with"),
    ('probe.py', [DEMO, 'x', '--cfg-options', 'teacher=r34.py'], "teacher='r34.py' should be a dict wi"),
    ('test.py', [DEMO, 'x', '--cfg-options', 'test_dataloader=3'], 'test_dataloader=3 should be a dict'),
    ('student_planes.py', [DEMO, '--cfg-options', 'distill=x'], "distill='x' should be a dict with keys"),
    ('sweep.py', [DEMO, '--search', 'distill.tau'], '--search distill.tau: should be KEY=VALUE'),
    ('sweep.py', [DEMO, '--epochs', '3', '--cfg-options', 'train_dataloader=None'], 'dataset is missing'),
    ('sweep.py', [DEMO, '--search', 'model.head.num_classes.x=1,2'], 'TypeError: num_classes={'),
    ('select_teacher.py', ['x', 'last', '--options', 'k'], '--options k: should be KEY=VALUE'),
    ('compare_selectors.py', [DEMO, 'x', '--cfg-options', 'probe=x'], "probe='x' should be a dict with keys"),
])
def test_command_line_prints_one_line_and_fails(tool, tmp_path, name, arguments, message):
    has_none = name.startswith(('select', 'compare')) or '--work-dir' in arguments
    where = [] if has_none else ['--work-dir', tmp_path / 'run']
    status, _, error = tool(name, *arguments, *where)
    assert status == 1 and error.startswith('error: ') and error.count('\n') == 1 and message in error


def test_attention_transfer_between_maps_of_different_sizes(distil_run):
    distiller, config = feature_distiller(channels=None, type='ATLoss'), distil_run(**PLAIN)
    distiller['teacher_recorders']['feature']['source'] = 'networks.0.backbone.layer2'
    config.distill.distiller = distiller
    refused(config, r'distill.distiller.*loss_feature.*layer1.*8, 8.*layer2.*4, 4')
    # teacher and first generation fit, the second generation finds no such layer in the first
    config.model, config.generations = resnet(1, deep_stem=False), 2
    config.model.backbone.strides = (2, )
    refused(config, r'networks.0.backbone.layer2')


def test_mmrazor_named_where_it_is_missing(distil_run, monkeypatch):
    config, real = distil_run(), importlib.util.find_spec
    config.distill.distiller = dict(type='mmrazor.ConfigurableDistiller')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'mmrazor' else real(name))
    refused(config, 'distiller=mmrazor.ConfigurableDistiller needs mmrazor, which is not installed',
            EnvironmentConflict)


def test_helper_variables_of_a_config_are_its_own(distil_run):
    config = distil_run(**PLAIN)
    config.head = dict(type='LinearClsHead', num_classes=10)
    run, _ = open_run(config)
    assert run.settings.heads is None


@pytest.mark.parametrize('derived, options', [('probe = dict(held_out=16)\n', []),
                                              ('', ['--cfg-options', 'probe.held_out=16'])])
def test_a_probe_over_an_inherited_none(tool, tmp_path, derived, options):
    """One line says how to write it, and so written it is what was meant."""
    (tmp_path / 'base.py').write_text(f'_base_ = "{DEMO}"\nprobe = None\nselector = "last"\n')
    file = tmp_path / 'derived.py'
    file.write_text(f'_base_ = "{tmp_path / "base.py"}"\n{derived}')
    status, _, error = tool('doctor.py', file, '--work-dir', tmp_path / 'run', *options)
    assert status == 1
    where = r'--cfg-options probe.held_out=16' if options else rf'config {file} cannot be read \({file}.*\)'
    hint = r' On a command line: --cfg-options KEY\._delete_=True .*' if options else ''
    assert re.fullmatch(rf"error: {where}: TypeError: probe=\{{'held_out': 16\}} .* is of type <class "
                        rf"'NoneType'> in base config\. You may set `_delete_=True` to ignore the base "
                        rf'config\.{hint}', error.strip().splitlines()[-1])
    file.write_text(file.read_text().replace('dict(', 'dict(_delete_=True, '))
    args = Namespace(config=str(file), work_dir=str(tmp_path), cfg_options=None)
    if options:
        args.cfg_options = {'probe._delete_': True, 'probe.held_out': 16}
    _, stages = open_run(load_config(args))
    assert stage_of(stages, 'select').probe.held_out == 16


def test_logits_of_a_teacher_without_maps_can_be_distilled(distil_run):
    config = distil_run(**PLAIN)
    config.teacher.model = vision_transformer()
    assert RUNNERS.build(config).train()['cohort']['size'] == 1


def test_data_sets_that_cannot_be_built_lazily(distil_run):
    config = distil_run(**PLAIN)
    config.train_dataloader.dataset = dict(type='KFoldDataset', num_splits=2,
                                           dataset=config.train_dataloader.dataset)
    assert RUNNERS.build(config).train()['student']['epoch'] == 2


def test_a_loss_that_is_no_number_stops_the_run(distil_run):
    config = distil_run()
    config.optim_wrapper.optimizer.lr = 1e30
    config.train_cfg.max_epochs = config.teacher.train_cfg.max_epochs = 30
    config.teacher.snapshots.interval = config.default_hooks.checkpoint.interval = 30
    with pytest.raises(DivergedError, match='the loss is (nan|inf) in iteration 50 .*--cfg-options optim_wr'):
        RUNNERS.build(config).train()


def test_a_diverged_snapshot_is_named(digits_run, tmp_path, monkeypatch):
    """It cannot be written any more, and older ones cannot be read."""
    found = trajectory(tmp_path / 'made', epochs=(1, 2))
    broken = {key: value * float('nan') if value.is_floating_point() else value
              for key, value in found.last.state_dict().items()}
    write = partial(write_snapshot, found.last.file, broken, epoch=2, iteration=8, lr=None,
                    model=found.info['model'], classes=found.info['classes'])
    with pytest.raises(DivergedError, match=r'^epoch_2.pth is not written: \d+ of its \d+ weights are not'):
        write()
    with monkeypatch.context() as patch:
        patch.setattr('ckd_mm.trajectory.snapshot.require_finite', lambda *arguments: None)
        found.add(write())
    with pytest.raises(SnapshotError, match=r'epoch_2.pth \(epoch 2\): \d+ of its \d+ weights are not'):
        probe_trajectory(found, Probe(digits_run(), probe_split='test', decoder_epochs=1),
                         tmp_path / 'plane.json')


@pytest.mark.parametrize('probe', ['', 'probe = None\nselector = "last"\n'])
@pytest.mark.parametrize('name', ['train_dataloader', 'test_dataloader'])
def test_another_data_set_where_one_in_memory_is_inherited(tmp_path, name, probe):
    """The message says how to write it; and so written, it is what was meant."""
    base = (f'_base_ = "{ROOT}/configs/ckd/r34_r18_cifar10.py"\nwork_dir = "{tmp_path}"\n{probe}'
            f'{name} = dict(dataset=')

    def derived(dataset: str) -> Config:
        (tmp_path / 'derived.py').write_text(f'{base}{dataset})')
        return Config.fromfile(tmp_path / 'derived.py')

    with pytest.raises(ConfigError, match=rf'{name}.dataset: CIFAR100 takes no `dataset`, but inherits that '
                       r"of ckd_mm.InMemory, of type CIFAR10. Write dataset=dict\(dataset=dict\("
                       r"type='CIFAR100', ...\)\) .* or dataset=dict\(_delete_=True"):
        open_run(derived('dict(type="CIFAR100", data_root="data/cifar100")'))
    for right in ('dict(dataset=dict(type="CIFAR100", data_root="d"))',
                  'dict(_delete_=True, type="CIFAR100", data_root="d", pipeline=[])'):
        dataset = open_run(derived(right))[0].config[name].dataset
        innermost = dataset.get('dataset', dataset)
        assert (innermost.type, innermost.data_root) == ('CIFAR100', 'd')
