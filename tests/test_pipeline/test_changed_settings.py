"""What may change before a run is resumed: a finished teacher is not lost to the mending of its student."""

import copy
import json
import re
from pathlib import Path

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, RUNNERS

from ckd_mm.errors import ConfigError

from ..conftest import distil_config, resnet
from ..helpers import stopped_at

EMA = dict(type='EMAHook', momentum=0.3)


@pytest.fixture(scope='module')
def taught(tmp_path_factory):
    """The config of a run whose teacher, with a hook of the config's, is finished and whose student is not
    begun."""
    config = distil_config(tmp_path_factory.mktemp('taught') / 'run', selector='last', probe=None,
                           custom_hooks=[EMA])
    RUNNERS.build(copy.deepcopy(config)).train(until='teacher')
    config.resume = True
    return config


def changed(config, changes: dict):
    config = copy.deepcopy(config)
    for key, value in changes.items():
        if value is None or isinstance(value, list):
            config[key] = value
        else:
            config.merge_from_dict({key: value})
    return config


def resumed(config) -> str:
    """What resuming its finished teacher logs."""
    log = Path(config.work_dir) / 'ckd_mm.log'
    before = len(log.read_text()) if log.exists() else 0
    RUNNERS.build(config).train(until='teacher')
    return log.read_text()[before:]


@pytest.mark.parametrize('changes, words', [
    ({'train_dataloader.drop_last': True}, 'train_dataloader.drop_last was None, now True'),
    ({'train_dataloader.batch_size': 8}, 'train_dataloader.batch_size was 16, now 8'),
    ({'train_dataloader.sampler.type': 'RepeatAugSampler'}, "sampler.type was 'DefaultSampler', now 'Rep"),
    ({'custom_hooks': None}, 'custom_hooks.EMAHook.momentum was 0.3, now None'),
    ({'custom_hooks': [dict(EMA, momentum=0.2)]}, 'custom_hooks.EMAHook.momentum was 0.3, now 0.2'),
    ({'val_dataloader.batch_size': 50}, 'val_dataloader.batch_size was 100, now 50'),
    ({'val_dataloader': None, 'val_cfg': None, 'val_evaluator': None}, 'val_dataloader'),
    ({'train_cfg.val_interval': 2}, 'train_cfg.val_interval was None, now 2'),
    ({'randomness.deterministic': True}, 'randomness.deterministic was None, now True'),
    ({'sync_bn': 'torch'}, "sync_bn was None, now 'torch'")])
def test_a_finished_teacher_keeps_how_it_was_trained(taught, changes, words):
    records = Path(taught.work_dir, 'stages.json').read_text()
    warnings = [line for line in resumed(changed(taught, changes)).splitlines() if ' - WARNING - ' in line]
    assert len(warnings) == 1 and 'Stage teacher: ' in warnings[0]
    assert words in warnings[0] and warnings[0].endswith('; what is finished stays as it is')
    assert Path(taught.work_dir, 'stages.json').read_text() == records


@pytest.mark.parametrize('changes', [
    {'find_unused_parameters': True}, {'train_dataloader.num_workers': 1, 'val_dataloader.num_workers': 1},
    {'val_evaluator': [dict(type='Accuracy', topk=(1, 5))]}, {'default_hooks.checkpoint.interval': 5},
    {'default_hooks.logger.interval': 1}, {'visualizer': dict(type='UniversalVisualizer', vis_backends=[])},
    {'log_level': 'ERROR'}, {'custom_hooks': [EMA, dict(type='SyncBuffersHook')]}])
def test_what_no_result_depends_on_is_not_mentioned(taught, changes):
    assert 'WARNING' not in resumed(changed(taught, changes))


@pytest.mark.parametrize('changes, words', [
    ({'optim_wrapper.optimizer.lr': 0.1}, 'optim_wrapper.optimizer.lr was 0.05, now 0.1. Restore them (for '
     'this stage alone in teacher=dict(optim_wrapper=...)), or choose another --work-dir'),
    ({'teacher.optim_wrapper': dict(optimizer=dict(lr=0.1))},
     'optim_wrapper.optimizer.lr was 0.05, now 0.1. Restore them, or choose another --work-dir'),
    ({'param_scheduler': [dict(type='MultiStepLR', milestones=[1])]}, 'param_scheduler.0.'),
    ({'teacher.train_cfg.max_epochs': 4}, 'train_cfg.max_epochs was 3, now 4'),
    ({'randomness.seed': 4}, 'randomness.seed was 3, now 4. Restore them (for this stage alone in teacher='
     'dict(randomness=...))'),
    ({'teacher.model': resnet(2, channels=8)}, 'model.backbone.base_channels was 4, now 8'),
    ({'data_preprocessor': dict(mean=[0.0] * 3)}, 'data_preprocessor.mean.0 was 77.9, now 0.0'),
    ({'train_dataloader.dataset.indices': 48}, 'train_dataloader.dataset.indices was 64, now 48'),
    ({'teacher.snapshots': dict(ema=True)}, 'custom_hooks.SnapshotHook.ema was False, now True')])
def test_another_teacher_is_refused(taught, changes, words):
    with pytest.raises(ConfigError, match=re.escape('stage teacher was finished with other settings: '
                                                    ) + '.*' + re.escape(words)):
        resumed(changed(taught, changes))


def test_with_what_it_had_for_itself_the_teacher_is_kept(taught):
    """The way out that the message names."""
    config = changed(taught, {'optim_wrapper.optimizer.lr': 0.1,
                              'teacher.optim_wrapper': dict(optimizer=dict(lr=0.05))})
    assert 'WARNING' not in resumed(config)


def test_fewer_snapshots_are_no_other_teacher(taught):
    config = changed(taught, {})
    config.teacher.snapshots = dict(epochs=[1, 3])
    assert 'WARNING' not in resumed(config)


def test_more_snapshots_are(distil_run):
    config = distil_run(selector='last', probe=None)
    config.teacher.snapshots = dict(epochs=[3])
    RUNNERS.build(config).train(until='teacher')
    config.resume, config.teacher.snapshots = True, dict(interval=2)
    with pytest.raises(ConfigError, match=r'epochs \[2\] are wanted now, it keeps those of \[3\]'):
        RUNNERS.build(config).train()


@HOOKS.register_module()
class Failing(Hook):

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if hasattr(runner.model, 'student') and runner.epoch == 1:  # no rehearsal comes so far
            raise AttributeError('head')


def test_a_hook_that_fails_in_the_student_costs_no_epoch_of_the_teacher(distil_run):
    """A whole run, mended as one would: it ends, and the student goes on as is said now."""
    config = distil_run(selector='last', probe=None, custom_hooks=[dict(type='mmengine.Failing')])
    with pytest.raises(AttributeError, match='head'):
        RUNNERS.build(copy.deepcopy(config)).train()
    folder = Path(config.work_dir)
    files = [*folder.glob('snapshots/*'), *folder.glob('teacher/*.pth')]
    before = {path: path.stat().st_mtime_ns for path in files}
    config.update(resume=True, custom_hooks=None)
    assert RUNNERS.build(config).train()['student']['epoch'] == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before
    settings = {name: record['settings'] for name, record in
                json.loads((folder / 'stages.json').read_text()).items()}
    assert 'mmengine.Failing' in settings['teacher'].values()
    assert 'mmengine.Failing' not in settings['student'].values()


# ------------------------------------------------------------ begun, but not finished
@pytest.fixture
def begun(distil_run):
    """The config of a run that was stopped after the first epoch of its teacher."""
    config = distil_run(selector='last', probe=None, custom_hooks=[EMA])
    stopped_at(config, 'teacher', 1)
    return config


def test_a_begun_teacher_goes_on_with_what_is_said_now(begun):
    begun.train_dataloader.update(drop_last=True, num_workers=1)
    log = resumed(begun)
    assert ('Stage teacher: train_dataloader.drop_last was None, now True; the teacher goes on with what is '
            'said now') in log
    assert 'resumed epoch: 1' in ''.join(map(Path.read_text, Path(begun.work_dir, 'teacher').glob('*/*.log')))


def test_a_begun_teacher_with_another_optimizer_starts_anew_where_the_message_says(begun):
    begun.optim_wrapper.optimizer.lr = 0.1
    note = Path(begun.work_dir) / 'teacher' / 'last_checkpoint'
    with pytest.raises(ConfigError, match=re.escape(
            'stage teacher was started with other settings: optim_wrapper.optimizer.lr was 0.05, now 0.1. '
            'Restore them (for this stage alone in teacher=dict(optim_wrapper=...)), or remove '
            f'{note} to train this stage from its start; finished stages stay as they are')):
        RUNNERS.build(begun).train()
    note.unlink()
    resumed(begun)
    manifest = json.loads(Path(begun.work_dir, 'trajectory.json').read_text())
    assert [entry['lr'] for entry in manifest['snapshots']] == [0.1] * 3
