"""Configs of stages."""

import pytest
from mmengine.config import Config

from ckd_mm.errors import ConfigError
from ckd_mm.training import apply_overrides

BASE = """
model = dict(type='ImageClassifier')
train_dataloader = dict(batch_size=8, dataset=dict(type='CIFAR10', pipeline=[dict(type='PackInputs')]))
train_cfg = dict(by_epoch=True, max_epochs=3)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9), clip_grad=dict(max_norm=1.0))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1), logger=None)
param_scheduler = dict(type='MultiStepLR', milestones=[1, 2], gamma=0.1)
randomness = dict(seed=3)
"""


@pytest.mark.parametrize('override', [
    'optim_wrapper = dict(optimizer=dict(lr=0.5))',
    "optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=0.001))",
    "optim_wrapper = dict(_delete_=True, optimizer=dict(type='AdamW'))",
    'optim_wrapper = dict(clip_grad=None)',
    "param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=3)",
    "param_scheduler = [dict(type='LinearLR'), dict(type='CosineAnnealingLR')]",
    "train_dataloader = dict(dataset=dict(_delete_=True, type='CIFAR100', pipeline=[]))",
    'train_dataloader = dict(dataset=dict(pipeline=[]))',
    'train_cfg = dict(_delete_=True, max_epochs=9)',
    'default_hooks = dict(checkpoint=dict(interval=2))',
    'custom_hooks = [dict(type="EMAHook")]',
    'randomness = None',
])
def test_overrides_merge_as_a_derived_config(tmp_path, override):
    (tmp_path / 'base.py').write_text(BASE, encoding='utf-8')
    (tmp_path / 'derived.py').write_text(f'_base_ = "base.py"\n{override}', encoding='utf-8')
    (tmp_path / 'override.py').write_text(override, encoding='utf-8')
    overrides = Config.fromfile(tmp_path / 'override.py').to_dict()
    derived, base = Config.fromfile(tmp_path / 'derived.py'), Config.fromfile(tmp_path / 'base.py')
    before = base.to_dict()
    assert apply_overrides(base, overrides, 'teacher').to_dict() == derived.to_dict()
    assert base.to_dict() == before


def made(override: dict, **base) -> Config:
    own = dict(model=dict(), train_cfg=dict(max_epochs=3), train_dataloader=dict(dataset=dict(type='Any')))
    return apply_overrides(Config(dict(own, **base)), override, 'teacher')


def test_delete_where_nothing_is_inherited_or_a_list():
    """mmengine leaves `_delete_` behind, or refuses; no optimizer and no schedule would take it."""
    cosine = dict(type='CosineAnnealingLR', T_max=3)
    for inherited in (dict(), dict(param_scheduler=None), dict(param_scheduler=[dict(type='LinearLR')])):
        changed = made(dict(param_scheduler=dict(_delete_=True, **cosine)), **inherited)
        assert changed.param_scheduler == cosine
    nested = made(dict(custom_hooks=[dict(type='A', inner=dict(_delete_=True, b=1))]))
    assert nested.custom_hooks == [dict(type='A', inner=dict(b=1))]
    assert made(dict(model=dict(_delete_=True, type='B'))).model == dict(type='B')


def test_one_item_of_an_inherited_list():
    """As `--cfg-options teacher.param_scheduler.1.gamma=0.2` arrives."""
    steps = [dict(type='LinearLR'), dict(type='MultiStepLR', gamma=0.1)]
    changed = made(dict(param_scheduler={'1': dict(gamma=0.2)}), param_scheduler=steps)
    assert changed.param_scheduler == [dict(type='LinearLR'), dict(type='MultiStepLR', gamma=0.2)]


@pytest.mark.parametrize('override, message', [
    (dict(train_cfg=dict(max_epochs=dict(a=1))), r'^teacher.train_cfg does not fit over what it inherits: '
     r"TypeError: max_epochs=\{'a': 1\}"),
    (dict(param_scheduler={'7': dict(gamma=0.2)}), r'^teacher.param_scheduler does not .* "Index 7 exceeds'),
    (dict(train_dataloader=dict(_delete_=True, batch_size=8)), r'^teacher.train_dataloader.dataset is missi'),
    (dict(train_cfg=dict(max_iters=90)), r'^teacher.train_cfg.max_iters=90 counts iterations, and the rest'
     r' of teacher.train_cfg epochs: give teacher.train_cfg=dict\(_delete_=True, by_epoch=True, max_epochs='),
    (dict(train_cfg=dict(by_epoch=False)), r'^teacher.train_cfg.max_epochs=3 counts epochs, and the rest '
     'of teacher.train_cfg iterations: give'),
    (dict(train_cfg=dict(_delete_=True, by_epoch=False)), r'^teacher.train_cfg.max_iters is missing: the '
     'teacher is trained by iterations'),
    (dict(train_cfg=dict(_delete_=True, type='IterBasedTrainLoop', max_iters=9)), r'^teacher.default_hooks.'
     r'checkpoint counts epochs, as it does by default, and teacher.train_cfg counts iterations: give '
     r'teacher.default_hooks.checkpoint=dict\(by_epoch=False'),
    (dict(train_cfg=dict(_delete_=True, by_epoch=False, max_iters=9),
          default_hooks=dict(checkpoint=dict(by_epoch=False))), '^teacher.param_scheduler: LinearLR counts'),
    (dict(train_cfg=dict(_delete_=True, by_epoch=False, max_iters=9), param_scheduler=[],
          default_hooks=dict(checkpoint=dict(by_epoch=False))), '^teacher.train_cfg counts iterations and '
     'train_cfg epochs: all trainings of a run count the same. Give'),
])
def test_overrides_that_leave_nothing_to_train(override, message):
    with pytest.raises(ConfigError, match=message):
        made(override, param_scheduler=[dict(type='LinearLR')])
