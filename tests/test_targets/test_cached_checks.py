"""What of a config with ``distill.cache`` is known before anything is trained."""

import copy
import shutil

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import TRANSFORMS
from mmpretrain.engine import SwitchRecipeHook

from ckd_mm.data import Views, ViewSampler
from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.files import write_json
from ckd_mm.losses import CohortKDLoss, SoftTarget
from ckd_mm.pipeline.training_stage import NetworkResult
from ckd_mm.registry import MODELS
from ckd_mm.stages.target_making import targets_fingerprint
from ckd_mm.stages.targets import TargetsResult
from ckd_mm.targets import Layout, TargetWriter

from ..conftest import resnet
from ..helpers import prepared
from .conftest import AUGMENTED, BATCH, IMAGES, run, stage_configs, uncached


def test_types_may_be_classes(cached):
    """As in configs that are written in pure Python."""
    found = []
    for sampler, wrapper in (('DefaultSampler', 'AmpOptimWrapper'), (DefaultSampler, AmpOptimWrapper)):
        config = cached()
        config.train_dataloader.sampler.type, config.optim_wrapper.type = sampler, wrapper
        found.append(targets_fingerprint(*stage_configs(config, 'targets'), []))
    assert found[0] == found[1] and found[1]['precision'] == 'autocast float16'
    for views, sampler in (('ckd_mm.Views', 'ckd_mm.ViewSampler'), (Views, ViewSampler)):
        config = uncached(cached())
        config.train_dataloader.dataset.type, config.train_dataloader.sampler.type = views, sampler
        assert stage_configs(config, 'student')[0].model.teacher_batch == BATCH


def test_where_images_in_memory_are_is_no_part_of_the_fingerprint(cached):
    found = []
    for device in (None, 'cuda:1'):
        config = cached()
        dataset = dict(type='ckd_mm.InMemory', dataset=config.train_dataloader.dataset, device=device)
        config.train_dataloader.dataset = dataset
        found.append(targets_fingerprint(*stage_configs(config, 'targets'), []))
    assert found[0] == found[1] and found[0]['dataset']['dataset']['indices'] == IMAGES


def test_the_baseline_sees_the_same_images(cached):
    baseline, taught = stage_configs(cached(student_alone=True), 'student_alone', 'student')
    assert baseline.train_dataloader == taught.train_dataloader
    assert baseline.train_dataloader.sampler == dict(type='ckd_mm.ViewSampler', shuffle=True, views=2)
    assert baseline.train_dataloader.dataset.seed == 0


# ------------------------------------------------------------ settings
class OfLogits(CohortKDLoss):
    """Inherits ``target``, but has no use for it."""

    def forward(self, student_logits, teacher_logits):
        return super().forward(student_logits, teacher_logits.clamp(-5, 5))


@pytest.mark.parametrize('cache, distill, words', [
    (dict(view=2), {}, "unknown key 'view'; did you mean 'views'"),
    (dict(dtype='float16'), {}, 'distill.cache.views is missing'),
    (3, {}, 'distill.cache=3 should be a dict'),
    (dict(views=0), {}, 'views=0 should be a whole number, at least 1'),
    (dict(views=5), {}, 'views=5: the student learns from its teachers for 4 epochs'),
    (dict(views=3), dict(stop_epoch=2), 'views=3: the student learns from its teachers for 2 epochs'),
    (dict(views=2, dtype='bfloat16'), {}, "dtype='bfloat16' should be one of"),
    (dict(views=2, top_k=10), {}, 'top_k=10 should be .* below the number of classes, 10'),
    (dict(views=2, file='nowhere'), {}, "distill.cache.file='nowhere' should be the folder of finished targ"),
    (dict(views=2), dict(distiller=dict(type='mmrazor.ConfigurableDistiller')),
     'a distiller reads the features'),
    (dict(views=2), dict(schedule=dict(type='ckd_mm.ProgressiveTeacherHook')),
     'ProgressiveTeacherHook changes it'),
    (dict(views=2), dict(kd_weight=0), 'kd_weight=0 no teacher is used'),
    (dict(views=2), dict(kd_weight=0, stop_epoch=3), 'kd_weight=0 no teacher is used'),
    (dict(views=2), dict(tau=None, loss=dict(type='ckd_mm.OfLogits', tau=2.0)),
     "^student: model with distill.loss=.*OfLogits.*, distill.cache, which gives a loss a SoftTarget "
     "instead of logits, fails in a training step on 2 images: AttributeError: "
     "'SoftTarget' object has no attribute 'clamp'"),
    (dict(views=2), dict(tau=None, loss=dict(type='mmrazor.L2Loss')), 'has no method `target`')])
def test_settings_are_refused(cached, monkeypatch, cache, distill, words):
    monkeypatch.setitem(MODELS.module_dict, 'OfLogits', OfLogits)
    with pytest.raises(ConfigError, match=words):
        prepared(cached('run', cache, distill))


MIXUP = dict(augments=dict(type='Mixup', alpha=0.8))
RECIPES = [dict(action_epoch=2), dict(action_epoch=3, train_pipeline=AUGMENTED)]


@pytest.mark.parametrize('name, value, words', [
    ('custom_hooks', [dict(type='SwitchRecipeHook', schedule=RECIPES)],
     'custom_hooks: SwitchRecipeHook changes train_pipeline while the student learns'),
    ('custom_hooks', [dict(type=SwitchRecipeHook, schedule=[dict(action_epoch=3, batch_augments=MIXUP)])],
     'custom_hooks: SwitchRecipeHook changes batch_augments while the student learns'),
    ('custom_hooks', [dict(type='mmdet.PipelineSwitchHook', switch_epoch=3, switch_pipeline=AUGMENTED)],
     'custom_hooks: PipelineSwitchHook changes switch_pipeline while the student learns'),
    ('train_dataloader.sampler', dict(type='RepeatAugSampler', _delete_=True), 'should be a DefaultSampler'),
    ('train_dataloader.num_batch_per_epoch', 2, 'train_dataloader.num_batch_per_epoch=2'),
    ('data_preprocessor.batch_augments', MIXUP, 'images are mixed anew in every step'),
    ('model.train_cfg', MIXUP, 'images are mixed anew in every step')])
def test_images_that_cannot_be_replayed_are_refused(cached, name, value, words):
    with pytest.raises(ConfigError, match=words):
        prepared(cached(**{name: value}))


def test_a_recipe_without_mixed_images_may_follow(cached):
    """Of images that are not mixed it changes nothing."""
    hook = dict(type='SwitchRecipeHook', schedule=[dict(action_epoch=3, batch_augments=None)])
    prepared(cached(custom_hooks=[hook]))


def test_a_run_without_a_cache_has_no_stage_of_targets(cached, tmp_path):
    with pytest.raises(ConfigError, match="'targets' is no stage of this config"):
        run(uncached(cached()), until='targets')
    assert not (tmp_path / 'run' / 'stages.json').exists()


def test_peers_and_baselines_have_nothing_to_cache(cached):
    for key, value, words in (('peer', dict(model=resnet()), "distill: unknown key 'cache'; known are tau"),
                              ('teacher', None, 'distill: with teacher=None nothing is distilled')):
        config = cached()
        config.teacher = config.selector = None
        config[key] = value
        with pytest.raises(ConfigError, match=words):
            prepared(config)


class OwnNoise:
    generator = np.random.default_rng(0)

    def __call__(self, item: dict) -> dict:
        item['img'] = self.generator.integers(0, 256, item['img'].shape, dtype=np.uint8)
        return item


class OwnFlip:
    """A mirror image in half of all cases: half of the images are the same when they are augmented twice."""
    generator = np.random.default_rng(0)

    def __call__(self, item: dict) -> dict:
        if self.generator.random() < 0.5:
            item['img'] = item['img'][:, ::-1].copy()
        return item


@pytest.mark.parametrize('transform, times', [(OwnNoise, 1), (OwnFlip, 3)])
def test_transforms_with_random_numbers_of_their_own_are_refused(cached, transform, times):
    config = cached()
    config.train_dataloader.dataset.pipeline = [dict(type=transform.__name__), dict(type='PackInputs')]
    with TRANSFORMS.switch_scope_and_registry('mmpretrain') as registry:
        registry.register_module(module=transform, force=True)
    for _ in range(times):
        with pytest.raises(ConfigError, match='augmented in two ways in the same view'):
            prepared(copy.deepcopy(config))


# ------------------------------------------------------------ room on the disk
@pytest.fixture
def with_free_disk(monkeypatch):
    """Checks a config on a disk with so many bytes left."""
    usage = shutil.disk_usage('/')

    def check(config, free: int) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(shutil, 'disk_usage', lambda folder: usage._replace(free=free))
            prepared(config)

    return check


FULL = 'the targets of distill.cache need 0.00 GiB .*store less of them'


def test_rows_that_are_on_the_disk_need_no_room(cached, with_free_disk, tmp_path):
    """Of 1,000 images in 2 views, 46 bytes each: 92,000 in all, of files with holes."""
    config = cached()
    config.train_dataloader.dataset.indices = 1000
    writer = TargetWriter(tmp_path / 'run' / 'targets', Layout(1000, 2, 10, 3), {}, 100)
    writer.prepare()
    config.resume = True
    with pytest.raises(CkdError, match=FULL):
        with_free_disk(config, 40_000)
    logits = torch.randn(1900, 10)
    writer.write(0, SoftTarget(logits, None, logits.argmax(dim=1)), torch.ones(1900))
    writer.done(0)
    with_free_disk(config, 40_000)


def test_targets_of_a_finished_generation_need_no_room(cached, with_free_disk, tmp_path):
    """They may have been removed, and 92,000 bytes are only to be had for the student's."""
    config = cached(generations=2)
    config.train_dataloader.dataset.indices = 1000
    with pytest.raises(CkdError, match=FULL):
        with_free_disk(config, 100_000)
    (tmp_path / 'run').mkdir()
    done = dict(state='done', processes=1, settings={}, seconds=1.0)
    results = dict(generation_1_targets=TargetsResult(
        file='targets', bytes=1, sha256={}, images=1, views=1, classes=10, teachers=1, dtype='float32',
        top_k=None, spread=False), generation_1=NetworkResult(metrics={}, epochs=1))
    write_json(tmp_path / 'run' / 'stages.json', {
        stage: dict(done, result=result.to_dict()) for stage, result in results.items()})
    config.resume, config.rehearsal = True, False  # there is no generation to learn from
    with_free_disk(config, 100_000)
