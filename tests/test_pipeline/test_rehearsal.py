"""What would fail late fails before the first stage, in one line; a rehearsal leaves nothing behind."""

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import RUNNERS
from mmpretrain.engine.hooks import SwitchRecipeHook
from mmpretrain.models.heads import LinearClsHead
from mmpretrain.registry import MODELS

from ckd_mm.errors import ConfigError
from ckd_mm.pipeline import rehearsal
from ckd_mm.pipeline.preflight import Preflight
from ckd_mm.pipeline.runner import CheckpointDistillRunner
from ckd_mm.students import CheckpointDistill

from ..conftest import STATISTICS, resnet
from ..helpers import assert_same_weights, batch, open_logs, weights_of

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
    (own(load_from='nowhere.pth'), r"^student: load_from='nowhere.pth' cannot be loaded: FileNotFoundError"),
    (dict(model=dict(init_cfg=dict(type='Pretrained', checkpoint='nowhere.pth'))),
     r'^student: model cannot be initialised: FileNotFoundError: .*nowhere.pth'),
    (dict(model=dict(head=dict(type='NoTrainingHead'))),
     r'^student: model fails in a training step on 2 images: NotImplementedError: training with'),
    (dict(test_dataloader=dict(persistent_workers=True)),
     r"^student: test_dataloader=\{.*'persistent_workers': True.*\} cannot be built: .*persistent"),
    (dict(test_evaluator=dict(topk=(1, 11))),
     r"^student: test_evaluator=\{'type': 'Accuracy', 'topk': \(1, 11\)\} fails on .*: Top-11 accuracy is"),
]
ALL = [
    (dict(val_evaluator=dict(topk=(1, 11))),
     r"^teacher: val_evaluator=.*\(1, 11\).* fails on a few images: "),
    (dict(train_dataloader=dict(batch_size=400, drop_last=True)),
     r'^teacher: train_dataloader has no batch: \d+ images, batch_size=400 and drop_last=True; lower '),
    (dict(train_dataloader=dict(sampler=dict(type='DefaultSampel'))),
     r"^teacher: train_dataloader.sampler.type='DefaultSampel' is registered nowhere; did you mean 'Default"),
    (dict(train_cfg=dict(val_intervall=2)),
     r'^teacher: .*train_cfg=.* cannot be built: TypeError: .*val_intervall'),
    (dict(param_scheduler=[dict(type='CosineAnnealingLR', T_maxx=3)]),
     r'^param_scheduler=.* cannot schedule the 3 epochs .* of the teacher: TypeError: .*T_maxx'),
    (dict(default_hooks=dict(checkpoint=dict(save_best='accuracy/top7'))),
     r'custom_hooks holds CheckpointHook, whose after_val_epoch fails: '),
    (dict(visualizer=dict(type='Visualizer', vis_backends=[dict(type='TensorbordVisBackend')])),
     r"^teacher: visualizer.vis_backends\[0\].type='TensorbordVisBackend' is registered nowhere; did"),
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
    left = [path.name for path in Path(config.work_dir).iterdir()]
    assert left == ['ckd_mm.log']


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
    config, lines = distil_run(**PLAIN, model=model), []
    CheckpointDistillRunner(config).prepare(Preflight(lines.append))
    assert any('no loss reaches student.backbone.layer2' in line for line in lines)
    monkeypatch.setattr(rehearsal, 'is_distributed', lambda: True)
    Path(config.work_dir).mkdir()
    with pytest.raises(ConfigError, match='no loss reaches .*; .* set find_unused_parameters=True'):
        CheckpointDistillRunner(config).prepare(Preflight(lines.append))
    config.find_unused_parameters = True
    CheckpointDistillRunner(config).prepare(Preflight(lines.append))


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


def test_finished_stages_are_not_rehearsed(distil_run):
    config, lines = distil_run(heads=dict(out_indices=[0])), []
    RUNNERS.build(config).train(until='heads')
    config.resume = True
    CheckpointDistillRunner(config).prepare(Preflight(lines.append))
    assert [line.split(': rehearsal')[0] for line in lines if ': rehearsal' in line] == ['[ ok ] student']
