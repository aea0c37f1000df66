"""A student that learns from targets that were kept ends with the weights of one whose teachers were asked in
every step."""

import copy
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.logging import MMLogger
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import RUNNERS, TRANSFORMS
from mmpretrain.engine import SwitchRecipeHook

from ckd_mm.data import Views, ViewSampler
from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.files import read_json, write_json
from ckd_mm.losses import CohortKDLoss, SoftTarget
from ckd_mm.pipeline.resumable_loop import ResumableEpochLoop
from ckd_mm.registry import MODELS
from ckd_mm.stages import target_making
from ckd_mm.students import CheckpointDistill
from ckd_mm.targets import Layout, TargetFile, TargetWriter, target_file, target_writer
from ckd_mm.teachers import SnapshotEnsemble
from ckd_mm.trajectory import Trajectory

from ..conftest import resnet
from ..helpers import assert_same_weights, trajectory
from .conftest import (
    AUGMENTED,
    BATCH,
    EPOCHS,
    IMAGES,
    VIEWS,
    preflight,
    run,
    stage_configs,
    student,
    uncached,
)


def scalars(config) -> list:
    """What the student's training logged once an epoch: of the training images, and of the validation."""
    files = Path(config.work_dir).glob('student/*/vis_data/scalars.json')
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [{name: value for name, value in row.items() if name.startswith(('train/', 'kd/'))} for row in rows
            if 'train/kd_error' in row or 'kd/error' in row]


def killed_by_itself(work) -> None:
    """Do it in a process that ends in the middle, without warning."""
    process = os.fork()
    if process == 0:
        try:
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def kill_at(monkeypatch, owner, method: str, call: int) -> None:
    """Kill this process when a method is called for the ``call``-th time, counted from 1."""
    original, calls = getattr(owner, method), []

    def counting(*args, **kwargs):
        calls.append(method)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, method, counting)


# ------------------------------------------------------------ the same student
@pytest.mark.parametrize('distill', [
    dict(), dict(aggregation='loss', reduction='sum'),
    dict(aggregation='logit', teacher_weights=[1, 2, 3], standardize=True),
    dict(tau=None, loss=dict(type='ckd_mm.DecoupledKDLoss', tau=2.0))
])
def test_bit_for_bit(config_of, distill):
    """Also in the batch of one image at the end of an epoch, of which the networks alone would make other
    last bits."""
    cached = config_of('cached', dict(distill, cache=dict(views=VIEWS)))
    plain = uncached(config_of('plain', dict(distill, cache=dict(views=VIEWS))))
    for config in (cached, plain):
        config.custom_hooks = [dict(type='ckd_mm.TrainAgreementHook')]
        config.val_evaluator = [dict(type='Accuracy'), dict(type='ckd_mm.KDMetric')]
        run(config)
    assert_same_weights(student(cached), student(plain))
    assert len(scalars(cached)) == 2 * EPOCHS and scalars(cached) == scalars(plain)


def test_worker_processes_augment_the_same_images(config_of):
    """``num_workers`` is how, not what."""
    rows, found = np.arange(IMAGES * VIEWS), []
    for workers in (0, 2):
        config = config_of(f'workers_{workers}', dict(cache=dict(views=VIEWS)))
        config.train_dataloader.update(num_workers=workers, persistent_workers=workers > 0)
        RUNNERS.build(config).train(until='targets')
        found.append(TargetFile(Path(config.work_dir) / 'targets').read(rows).log_p)
    assert torch.equal(*found)


def test_any_settings_of_the_data_loader(config_of, tmp_path):
    """Some are of worker processes alone, and the first batch is made without."""
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    config.train_dataloader.update(num_workers=1, timeout=60, multiprocessing_context='fork',
                                   prefetch_factor=2, persistent_workers=True)
    RUNNERS.build(config).train(until='targets')
    assert TargetFile(tmp_path / 'run' / 'targets').is_complete


def test_types_may_be_classes(config_of):
    """As in configs that are written in pure Python."""
    found = []
    for sampler, wrapper in (('DefaultSampler', 'AmpOptimWrapper'), (DefaultSampler, AmpOptimWrapper)):
        config = config_of(distill=dict(cache=dict(views=VIEWS)))
        config.train_dataloader.sampler.type, config.optim_wrapper.type = sampler, wrapper
        found.append(target_making.targets_fingerprint(*stage_configs(config, 'targets'), []))
    assert found[0] == found[1] and found[1]['precision'] == 'autocast float16'
    batches = []
    for views, sampler in (('ckd_mm.Views', 'ckd_mm.ViewSampler'), (Views, ViewSampler)):
        config = uncached(config_of(distill=dict(cache=dict(views=VIEWS))))
        config.train_dataloader.dataset.type, config.train_dataloader.sampler.type = views, sampler
        batches.append(stage_configs(config, 'student')[0].model.teacher_batch)
    assert batches == [BATCH, BATCH]


def test_the_views_matter(config_of):
    """With other views the student is another, so the tests above compare something."""
    ends = []
    for views in (1, 2):
        config = config_of(f'views_{views}', dict(cache=dict(views=views)))
        run(config)
        ends.append(student(config))
    assert any(not torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.parametrize('settings', [dict(dtype='float16'), dict(top_k=4), dict(dtype='float16', top_k=9)])
def test_what_is_kept_shorter_teaches_nearly_the_same(config_of, settings):
    full, short = config_of('full', dict(cache=dict(views=VIEWS))), config_of(
        'short', dict(cache=dict(views=VIEWS, **settings)))
    files = []
    for config in (full, short):
        RUNNERS.build(config).train(until='targets')
        assert not (Path(config.work_dir) / 'student').exists()
        files.append(TargetFile(Path(config.work_dir) / 'targets'))
    rows = np.arange(IMAGES * VIEWS)
    whole, kept = (file.read(rows).log_p.exp() for file in files)
    assert files[1].layout.bytes < files[0].layout.bytes
    torch.testing.assert_close(kept.sum(dim=1), torch.ones(len(rows)))
    largest = whole.topk(settings.get('top_k', 10), dim=1).indices
    torch.testing.assert_close(kept.gather(1, largest), whole.gather(1, largest), rtol=5e-3, atol=1e-4)


def test_rows_are_what_the_teachers_say_of_that_view(config_of, tmp_path):
    """Asked once more, one image at a time, by hand."""
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    RUNNERS.build(config).train(until='targets')
    images = Views(config.train_dataloader.dataset.to_dict(), seed=0)
    images.replay(0)
    mean, std = 77.9, 95.9
    networks = [snapshot.build() for snapshot in Trajectory.open(tmp_path / 'given')]
    file = TargetFile(tmp_path / 'run' / 'targets')
    for row in (0, 5, IMAGES - 1, IMAGES, 2 * IMAGES - 1):
        inputs = (images[row]['inputs'].float()[None] - mean) / std
        with torch.no_grad():
            expected = torch.stack(
                [(network(inputs, mode='tensor') / 4.0).softmax(dim=1) for network in networks]).mean(dim=0)
        torch.testing.assert_close(file.read(np.array([row])).log_p.exp(), expected, rtol=1e-5, atol=1e-7)
    assert not torch.equal(file.read(np.array([5])).log_p, file.read(np.array([5 + IMAGES])).log_p)


# ------------------------------------------------------------ once and for all
def test_no_teacher_is_built_while_the_student_learns(config_of, monkeypatch):
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    RUNNERS.build(config).train(until='targets')

    def refuse(*args, **kwargs):
        raise AssertionError('a teacher was built')

    monkeypatch.setattr(SnapshotEnsemble, '__init__', refuse)
    config.resume = True
    run(config)
    assert (Path(config.work_dir) / 'student.pth').exists()


def test_killed_while_targets_are_made_and_while_the_student_learns(config_of, monkeypatch, tmp_path):
    """SIGKILL, twice."""
    monkeypatch.setattr(target_writer, 'BATCHES_A_BLOCK', 1)
    unbroken, broken = (config_of(name, dict(cache=dict(views=VIEWS))) for name in ('unbroken', 'broken'))
    for config in (unbroken, broken):
        config.custom_hooks = [dict(type='ckd_mm.TrainAgreementHook')]
    run(unbroken)
    with monkeypatch.context() as patch:
        kill_at(patch, target_writer.TargetWriter, 'done', 4)
        killed_by_itself(lambda: run(broken))
    folder = tmp_path / 'broken' / 'targets'
    progress, before = np.load(folder / 'progress.npy'), np.load(folder / 'log_p.npy')
    assert progress.tolist() == [1, 1, 1, 0, 0] and not (tmp_path / 'broken' / 'student').exists()
    broken.resume = True
    with monkeypatch.context() as patch:
        kill_at(patch, ResumableEpochLoop, 'run_iter', 8)  # in the third epoch of three batches
        killed_by_itself(lambda: run(broken))
    assert (tmp_path / 'broken' / 'student' / 'epoch_2.pth').exists()
    after = np.load(folder / 'log_p.npy')
    assert np.array_equal(before[:3 * BATCH], after[:3 * BATCH])
    assert np.array_equal(after, np.load(tmp_path / 'unbroken' / 'targets' / 'log_p.npy'))
    run(broken)
    assert_same_weights(student(unbroken), student(broken))


def test_seconds_of_earlier_attempts_count(config_of, monkeypatch, tmp_path):
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    with monkeypatch.context() as patch:
        kill_at(patch, target_writer.TargetWriter, 'finish', 1)
        killed_by_itself(lambda: run(config))
    record = read_json(tmp_path / 'run' / 'targets' / 'targets.json')
    write_json(tmp_path / 'run' / 'targets' / 'targets.json', dict(record, seconds=1000 + record['seconds']))
    config.resume = True
    RUNNERS.build(config).train(until='targets')
    assert 1000 < read_json(tmp_path / 'run' / 'stages.json')['targets']['seconds'] < 1600


def test_removed_targets_are_made_again(config_of, tmp_path):
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    RUNNERS.build(config).train(until='targets')
    for file in (tmp_path / 'run' / 'targets').glob('*.*'):
        file.unlink()
    config.resume = True
    run(config)
    assert TargetFile(tmp_path / 'run' / 'targets').is_complete


def refused_when_resumed(config, words: str) -> None:
    config.resume = True
    with pytest.raises(ConfigError, match=words):
        run(config)
    assert not (Path(config.work_dir) / 'student').exists()


def test_other_teachers_on_resume_are_refused(config_of, tmp_path):
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    RUNNERS.build(config).train(until='targets')
    trajectory(tmp_path / 'other', epochs=(1, 2, 3), seed=100)
    config.teacher.trajectory = str(tmp_path / 'other')
    refused_when_resumed(config, 'stage teacher was finished with other settings')


def test_a_damaged_teacher_is_not_gone(config_of, tmp_path):
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    RUNNERS.build(config).train(until='targets')
    file = tmp_path / 'given' / 'snapshots' / 'epoch_3.pth'
    file.write_bytes(file.read_bytes()[:-1])
    config.resume = True
    with pytest.raises(CkdError, match='epoch_3.* is damaged'):
        run(config)


def test_another_loss_on_resume_is_refused(config_of):
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    RUNNERS.build(config).train(until='targets')
    config.distill.tau = 1.0
    refused_when_resumed(config, 'target.tau was 4.0, now 1.0')


def test_a_removed_teacher_is_named_and_its_targets_are_not_lost(config_of, tmp_path):
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    RUNNERS.build(config).train(until='targets')
    written = (tmp_path / 'run' / 'targets' / 'log_p.npy').stat().st_mtime_ns
    file = (tmp_path / 'given' / 'snapshots' / 'epoch_3.pth').rename(tmp_path / 'elsewhere.pth')
    config.resume = True
    with pytest.raises(CkdError, match=r'given/snapshots/epoch_3\.pth.* does not exist; restore the file'):
        run(config)
    file.rename(tmp_path / 'given' / 'snapshots' / 'epoch_3.pth')
    run(config)
    assert (tmp_path / 'run' / 'targets' / 'log_p.npy').stat().st_mtime_ns == written


MIXUP = dict(augments=dict(type='Mixup', alpha=0.8))


@pytest.mark.parametrize('key', ['data_preprocessor.batch_augments', 'model.train_cfg'])
def test_images_that_are_mixed_from_now_on_are_refused(config_of, key):
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    RUNNERS.build(config).train(until='targets')
    config.merge_from_dict({key: MIXUP})
    refused_when_resumed(config, 'images are mixed anew in every step')


def test_images_that_change_while_the_student_learns_are_found(config_of):
    """One of them, after the first epoch."""
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    config.train_dataloader.dataset.pipeline.insert(0, dict(type='Changing'))
    with TRANSFORMS.switch_scope_and_registry('mmpretrain') as registry:
        registry.register_module(name='Changing', module=Changing, force=True)
    RUNNERS.build(config).train(until='targets')
    Changing.calls_left = 2 * 32 + IMAGES + BATCH  # 32 images are looked at twice before the training
    config.resume = True
    with pytest.raises(CkdError, match=r'image 7 in view [01] is not the one that the teachers saw .*\(and '
                                       r'so are 0 more of'):
        run(config)


def test_no_checkpoint_rests_on_images_that_nobody_verified(config_of, monkeypatch, tmp_path):
    """On a GPU checksums are compared every 50 batches, and here the fourth epoch of three shows another
    image: a run that is resumed should not go on behind it."""
    monkeypatch.setattr(target_file, 'VERIFIED_AT_ONCE', ())
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    config.train_dataloader.dataset.pipeline.insert(0, dict(type='Changing'))
    monkeypatch.setattr(Changing, 'calls_left', 10**9)
    with TRANSFORMS.switch_scope_and_registry('mmpretrain') as registry:
        registry.register_module(name='Changing', module=Changing, force=True)
    RUNNERS.build(config).train(until='targets')
    Changing.calls_left = 2 * 32 + 3 * IMAGES
    config.resume = True
    with pytest.raises(CkdError, match='image 7 in view 1 is not the one that the teachers saw'):
        run(config)
    assert not (tmp_path / 'run' / 'student' / 'epoch_4.pth').exists() and (tmp_path / 'run' / 'student' /
                                                                            'epoch_3.pth').exists()
    Changing.calls_left = 10**9
    run(config)
    plain = uncached(config_of('plain', dict(cache=dict(views=VIEWS))))
    run(plain)
    assert_same_weights(student(config), student(plain))


class Changing:
    """The image with index 7 is another one after so many calls."""
    calls_left = 10**9

    def __call__(self, item: dict) -> dict:
        Changing.calls_left -= 1
        if Changing.calls_left < 0 and item['sample_idx'] == 7:
            item['img'] = item['img'][:, ::-1].copy()
        return item


def test_where_images_in_memory_are_is_no_part_of_the_fingerprint(config_of):
    found = []
    for device in (None, 'cuda:1'):
        config = config_of(distill=dict(cache=dict(views=VIEWS)))
        config.train_dataloader.dataset = dict(type='ckd_mm.InMemory',
                                               dataset=config.train_dataloader.dataset, device=device)
        found.append(target_making.targets_fingerprint(*stage_configs(config, 'targets'), []))
    assert found[0] == found[1] and found[0]['dataset']['dataset']['indices'] == IMAGES


def test_what_was_just_written_is_not_read_again(config_of, monkeypatch, tmp_path):
    read, original = [], target_file.sha256_of_file
    for module in (target_file, target_writer):
        monkeypatch.setattr(module, 'sha256_of_file', lambda path: read.append(path.stem) or original(path))
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    RUNNERS.build(config).train(until='targets')
    assert sorted(read) == ['checksum', 'log_p', 'predicted']
    other = config_of('other', dict(cache=dict(views=VIEWS)))
    read.clear()
    run(other)
    assert sorted(read) == ['checksum', 'log_p', 'predicted']
    read.clear()
    config.resume = True
    run(config)  # another process may have written since
    assert sorted(read) == ['checksum', 'log_p', 'predicted']


def test_a_process_that_fails_says_so_before_it_waits_for_the_others(config_of, monkeypatch):
    happened, gather = [], target_making.all_gather_object

    def fail(*args):
        raise OSError('the file system is gone')

    monkeypatch.setattr(target_writer.TargetWriter, 'write', fail)
    monkeypatch.setattr(MMLogger, 'error', lambda logger, text: happened.append(text))
    monkeypatch.setattr(target_making, 'all_gather_object',
                        lambda found: happened.append('gathered') or gather(found))
    with pytest.raises(OSError, match='the file system is gone'):
        run(config_of(distill=dict(cache=dict(views=VIEWS))))
    assert happened == ['Making targets failed in process 0: OSError: the file system is gone', 'gathered']


def test_until_the_student_stops(config_of, tmp_path):
    """No target is looked up after the stop, and a finished student needs none."""
    config = config_of(distill=dict(cache=dict(views=VIEWS), stop_epoch=2))
    plain = uncached(config_of('plain', dict(cache=dict(views=VIEWS), stop_epoch=2)))
    run(config)
    run(plain)
    assert_same_weights(student(config), student(plain))
    shutil.rmtree(tmp_path / 'run' / 'targets')
    config.resume = True
    run(config)


def test_every_link_has_its_own(config_of, tmp_path):
    """The second generation learns from targets of the first, and from other pixels than another seed would
    augment."""
    cached = config_of('cached', dict(cache=dict(views=VIEWS)), generations=2)
    plain = uncached(config_of('plain', dict(cache=dict(views=VIEWS)), generations=2))
    for config in (cached, plain):
        run(config)
    assert TargetFile(tmp_path / 'cached' / 'generation_1_targets').teachers == 3
    assert TargetFile(tmp_path / 'cached' / 'targets').teachers == 1
    assert_same_weights(student(cached), student(plain))


def test_heads_teach_through_targets_too(config_of, tmp_path):
    heads = dict(out_indices=(0, 1), kind='flatten', train_cfg=dict(max_epochs=1))
    cached = config_of('cached', dict(cache=dict(views=VIEWS), aggregation='loss'), heads=heads)
    plain = uncached(config_of('plain', dict(cache=dict(views=VIEWS), aggregation='loss')))
    cached.selector = plain.selector = 'last'
    run(cached)
    plain.heads = dict(file=str(tmp_path / 'cached' / 'heads.pth'))
    run(plain)
    assert TargetFile(tmp_path / 'cached' / 'targets').teachers == 3
    assert_same_weights(student(cached), student(plain))


def test_short_trials_of_a_selector_see_views_too(config_of):
    """They ask the teachers themselves: what is kept is of those that the selector chooses."""
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    config.selector, config.probe = dict(type='short_probe', epochs=1), dict(held_out=8)
    found = RUNNERS.build(config).train(until='targets')
    assert found is None and TargetFile(Path(config.work_dir) / 'targets').layout.images == IMAGES


def test_in_channels_last_too(config_of, monkeypatch):
    """The hook changes how teachers compute, so it must work in the stage that asks them."""
    monkeypatch.setattr('ckd_mm.students.taught_student.CHANNELS_LAST_ON', ())  # as on a GPU
    distill = dict(cache=dict(views=VIEWS))
    cached, plain = config_of('cached', copy.deepcopy(distill)), uncached(
        config_of('plain', copy.deepcopy(distill)))
    for config in (cached, plain):
        config.custom_hooks = [dict(type='ckd_mm.ChannelsLastHook')]
        run(config)
    assert_same_weights(student(cached), student(plain))


def test_images_in_memory_need_no_views_around_them(config_of):
    """``InMemory`` can be replayed by itself; it only gets the seed that students share."""
    cached = config_of('cached', dict(cache=dict(views=VIEWS)))
    cached.train_dataloader.dataset = dict(type='ckd_mm.InMemory', dataset=cached.train_dataloader.dataset)
    cached.train_dataloader.collate_fn = dict(type='ckd_mm.whole_batch')
    plain = copy.deepcopy(cached)
    plain.work_dir, plain.distill.cache = str(Path(cached.work_dir).parent / 'plain'), None
    plain.train_dataloader.dataset.seed = 0
    plain.train_dataloader.sampler = dict(type='ckd_mm.ViewSampler', views=VIEWS, shuffle=True)
    for config in (cached, plain):
        run(config)
    assert stage_configs(cached, 'student')[0].train_dataloader.dataset.type == 'ckd_mm.InMemory'
    assert_same_weights(student(cached), student(plain))


def test_a_schedule_may_ask_the_teacher_about_other_images(distil_run, monkeypatch):
    """Held-out images, which are not among the kept."""
    config = distil_run()
    config.selector, config.probe = 'last', None
    config.distill.cache = dict(views=VIEWS)
    config.distill.schedule = dict(type='ckd_mm.StopWhenOvertakenHook', held_out=16, margin=99)
    built, loss = [], CheckpointDistill.loss
    monkeypatch.setattr(CheckpointDistill, 'loss',
                        lambda self, *batch: built.append(self.outside.ready) or loss(self, *batch))
    run(config)
    assert built == [False] * 6  # two epochs of three batches: it was asked, and released
    assert TargetFile(Path(config.work_dir) / 'targets').layout.images == 64 - 16
    assert 'The teacher classifies' in ''.join(
        file.read_text() for file in Path(config.work_dir).glob('student/*/*.log'))


def test_the_student_alone_sees_the_same_images(config_of):
    config = config_of(distill=dict(cache=dict(views=VIEWS)), student_alone=True)
    alone, taught = stage_configs(config, 'student_alone', 'student')
    assert alone.train_dataloader == taught.train_dataloader
    assert alone.train_dataloader.sampler == dict(type='ckd_mm.ViewSampler', shuffle=True, views=VIEWS)
    assert alone.train_dataloader.dataset.seed == 0


# ------------------------------------------------------------ what cannot be
RECORDER = dict(type='mmrazor.ConfigurableDistiller')


@pytest.mark.parametrize(
    'distill,words', [(dict(cache=dict(view=2)), "unknown key 'view'; did you mean 'views'"),
     (dict(cache=dict()), 'distill.cache.views is missing'),
     (dict(cache=3), 'distill.cache=3 should be a dict'),
     (dict(cache=dict(views=0)), 'views=0 should be a whole number, at least 1'),
     (dict(cache=dict(views=6)), 'views=6: the student learns from its teachers for 5 epochs'),
     (dict(cache=dict(views=3), stop_epoch=2), 'views=3: the student learns from its teachers for 2 epochs'),
     (dict(cache=dict(views=2, dtype='bfloat16')), "dtype='bfloat16' should be one of"),
     (dict(cache=dict(views=2, top_k=10)), 'top_k=10 should be .* below the number of classes, 10'),
     (dict(cache=dict(views=2, file='nowhere')), "distill.cache.file='nowhere' should be the folder of "
      "finished targets"), (dict(cache=dict(views=2), distiller=RECORDER), 'a distiller reads the features'),
     (dict(cache=dict(views=2),
           schedule=dict(type='ckd_mm.ProgressiveTeacherHook')), 'ProgressiveTeacherHook changes it'),
     (dict(cache=dict(views=2), kd_weight=0), 'kd_weight=0 no teacher is used'),
     (dict(cache=dict(views=2), kd_weight=0, stop_epoch=3), 'kd_weight=0 no teacher is used'),
     (dict(cache=dict(views=2), tau=None, loss=dict(type='ckd_mm.OfLogits', tau=2.0)),
      "ckd_mm.OfLogits cannot be called with a SoftTarget, .*AttributeError: 'SoftTarget' object has no "
      "attribute 'clamp'"),
     (dict(cache=dict(views=2), tau=None, loss=dict(type='mmrazor.L2Loss')), 'has no method `target`')])
def test_refused_before_training(config_of, monkeypatch, distill, words):
    monkeypatch.setitem(MODELS.module_dict, 'OfLogits', OfLogits)
    with pytest.raises(ConfigError, match=words):
        preflight(config_of(distill=distill))


class OfLogits(CohortKDLoss):
    """Inherits ``target``, but has no use for it."""

    def forward(self, student_logits, teacher_logits):
        return super().forward(student_logits, teacher_logits.clamp(-5, 5))


@pytest.mark.parametrize('name,value,words', [
    ('custom_hooks', [
        dict(type='SwitchRecipeHook', schedule=[dict(action_epoch=2),
                       dict(action_epoch=3, train_pipeline=AUGMENTED)])
    ], 'custom_hooks: SwitchRecipeHook changes train_pipeline while the student learns'),
    ('custom_hooks', [dict(type=SwitchRecipeHook, schedule=[dict(action_epoch=3, batch_augments=MIXUP)])
                      ], 'custom_hooks: SwitchRecipeHook changes batch_augments while the student learns'),
    ('custom_hooks', [dict(type='mmdet.PipelineSwitchHook', switch_epoch=3, switch_pipeline=AUGMENTED)
                      ], 'custom_hooks: PipelineSwitchHook changes switch_pipeline while the student learns'),
    ('train_dataloader.sampler', dict(type='RepeatAugSampler', _delete_=True), 'should be a DefaultSampler'),
    ('train_dataloader.num_batch_per_epoch', 2, 'train_dataloader.num_batch_per_epoch=2'),
    ('data_preprocessor.batch_augments', dict(augments=dict(type='Mixup', alpha=0.8)), 'images are mixed '
     'anew in every step'),
    ('model.train_cfg', dict(augments=dict(type='Mixup', alpha=0.8)), 'images are mixed anew in every step')
])
def test_images_that_cannot_be_replayed_are_refused(config_of, name, value, words):
    with pytest.raises(ConfigError, match=words):
        preflight(config_of(distill=dict(cache=dict(views=2)), **{name: value}))


def test_a_recipe_without_mixed_images_may_follow(config_of):
    """Of images that are not mixed it changes nothing."""
    hook = dict(type='SwitchRecipeHook', schedule=[dict(action_epoch=3, batch_augments=None)])
    preflight(config_of(distill=dict(cache=dict(views=2)), custom_hooks=[hook]))


def test_targets_that_nobody_keeps_cannot_be_stopped_at(config_of, tmp_path):
    config = config_of()
    with pytest.raises(ConfigError, match="'targets' is no stage of this config"):
        RUNNERS.build(config).train(until='targets')
    assert not (tmp_path / 'run' / 'stages.json').exists()  # no stage was begun


def test_a_transform_with_random_numbers_of_its_own_is_refused(config_of):
    config = config_of(distill=dict(cache=dict(views=2)))
    config.train_dataloader.dataset.pipeline.insert(0, dict(type='OwnNoise'))
    with TRANSFORMS.switch_scope_and_registry('mmpretrain') as registry:
        registry.register_module(name='OwnNoise', module=OwnNoise, force=True)
    with pytest.raises(ConfigError, match='augmented in two ways in the same view'):
        preflight(config)


def test_a_mirror_image_of_its_own_is_refused_every_time(config_of):
    """Half of the images are the same in both looks."""
    config = config_of(distill=dict(cache=dict(views=2)))
    config.train_dataloader.dataset.pipeline = [dict(type='OwnFlip'), dict(type='PackInputs')]
    with TRANSFORMS.switch_scope_and_registry('mmpretrain') as registry:
        registry.register_module(name='OwnFlip', module=OwnFlip, force=True)
    for _ in range(6):
        with pytest.raises(ConfigError, match='augmented in two ways in the same view'):
            preflight(copy.deepcopy(config))


class OwnFlip:
    generator = np.random.default_rng(0)

    def __call__(self, item: dict) -> dict:
        if self.generator.random() < 0.5:
            item['img'] = item['img'][:, ::-1].copy()
        return item


class OwnNoise:
    generator = np.random.default_rng(0)

    def __call__(self, item: dict) -> dict:
        item['img'] = self.generator.integers(0, 256, item['img'].shape, dtype=np.uint8)
        return item


def with_free_disk(config, free: int, monkeypatch) -> None:
    """Check it on a disk with so many bytes left."""
    usage = shutil.disk_usage('/')
    with monkeypatch.context() as patch:
        patch.setattr(shutil, 'disk_usage', lambda folder: usage._replace(free=free))
        preflight(config)


FULL = 'the targets of distill.cache need 0.00 GiB .*store less of them'


def test_a_full_disk_is_said_before_training(config_of, monkeypatch):
    with pytest.raises(CkdError, match=FULL):
        with_free_disk(config_of(distill=dict(cache=dict(views=2))), 1000, monkeypatch)


def test_rows_that_are_on_the_disk_need_no_room(config_of, monkeypatch, tmp_path):
    """Of 1,000 images in 2 views, 46 bytes each: 92,000 in all, of files with holes."""
    config = config_of(distill=dict(cache=dict(views=2)))
    config.train_dataloader.dataset.indices = 1000
    layout = Layout(1000, 2, 10, 3)
    writer = TargetWriter(tmp_path / 'run' / 'targets', layout, {}, 100)
    writer.prepare()
    config.resume = True
    with pytest.raises(CkdError, match=FULL):
        with_free_disk(config, 40_000, monkeypatch)
    logits = torch.randn(1900, 10)
    writer.write(0, SoftTarget(logits, None, logits.argmax(dim=1)), torch.ones(1900))
    writer.done(0)
    with_free_disk(config, 40_000, monkeypatch)


def test_targets_of_a_finished_link_need_no_room(config_of, monkeypatch, tmp_path):
    """They may have been removed, and 92,000 bytes are only to be had for the student's."""
    config = config_of(distill=dict(cache=dict(views=2)), generations=2)
    config.train_dataloader.dataset.indices = 1000
    with pytest.raises(CkdError, match=FULL):
        with_free_disk(config, 100_000, monkeypatch)
    (tmp_path / 'run').mkdir()
    write_json(tmp_path / 'run' / 'stages.json', {
        stage: dict(state='done', processes=1, settings={}, seconds=1.0, result={})
        for stage in ('teacher', 'select', 'generation_1_targets', 'generation_1')})
    config.resume = True
    with_free_disk(config, 100_000, monkeypatch)


def test_peers_and_students_alone_have_nothing_to_keep(config_of):
    for key, value, words in (('peer', dict(model=resnet()), "distill: unknown key 'cache'; known are tau"),
                              ('teacher', None, 'distill: with teacher=None nothing is distilled')):
        config = config_of(distill=dict(cache=dict(views=2)))
        config.teacher = config.selector = None
        config[key] = value
        with pytest.raises(ConfigError, match=words):
            preflight(config)
