"""A student that learns from targets that were kept ends with the weights of one whose teachers were asked in every step."""

import copy
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS, TRANSFORMS

from ckd_mm.datasets import Views
from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.models import SnapshotEnsemble
from ckd_mm.runner import ResumableEpochLoop, make_plan, preflight, target_stage
from ckd_mm.targets import TargetFile, target_file, target_writer
from ckd_mm.trajectory import Trajectory

from ..conftest import resnet
from ..helpers import assert_same_weights, trajectory, weights_of, with_statistics

IMAGES, BATCH, VIEWS, EPOCHS = 33, 16, 2, 5  # three batches an epoch, the last of one image; five batches of both views
AUGMENTED = [dict(type='RandomCrop', crop_size=8, padding=2), dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]


@pytest.fixture
def config_of(distil_run, tmp_path):
    """Makes a config whose teachers exist; five epochs of randomly augmented images."""
    if not (tmp_path / 'given').exists():
        trajectory(tmp_path / 'given', epochs=(1, 2, 3))

    def make(name='run', distill=None, **settings):
        config = distil_run(work_dir=str(tmp_path / name), **settings)
        config.selector, config.probe = dict(type='even', k=3), None
        config.teacher = dict(trajectory=str(tmp_path / 'given'))
        config.train_cfg.max_epochs = EPOCHS
        config.train_dataloader.update(batch_size=BATCH)
        config.train_dataloader.dataset.update(indices=IMAGES, pipeline=copy.deepcopy(AUGMENTED))
        config.distill.update(distill or {})
        return config

    return make


def uncached(config):
    """The same run, whose teachers are asked in every step."""
    views = config.distill.pop('cache')['views']
    loader = config.train_dataloader
    loader.dataset = dict(type='ckd_mm.Views', seed=0, dataset=loader.dataset)
    loader.sampler = dict(type='ckd_mm.ViewSampler', views=views, shuffle=True)
    return config


def student(config) -> dict:
    return weights_of(Path(config.work_dir) / 'student.pth')


def run(config):
    return RUNNERS.build(config).train()


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
    dict(), dict(aggregation='loss', reduction='sum'), dict(aggregation='logit', teacher_weights=[1, 2, 3], standardize=True),
    dict(tau=None, loss=dict(type='ckd_mm.DecoupledKDLoss', tau=2.0))])
def test_bit_for_bit(config_of, distill):
    """Also in the batch of one image at the end of an epoch, of which the networks alone would make other last bits."""
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
    full, short = config_of('full', dict(cache=dict(views=VIEWS))), config_of('short', dict(cache=dict(views=VIEWS, **settings)))
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
            expected = torch.stack([(network(inputs, mode='tensor') / 4.0).softmax(dim=1) for network in networks]).mean(dim=0)
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
    """SIGKILL, twice; before the student goes on its teachers are removed."""
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
    shutil.rmtree(tmp_path / 'given')
    run(broken)
    assert_same_weights(student(unbroken), student(broken))


def test_another_run_takes_them_over(config_of, tmp_path):
    first = config_of('first', dict(cache=dict(views=VIEWS)))
    run(first)
    file = str(tmp_path / 'first' / 'targets')
    second = config_of('second', dict(cache=dict(views=VIEWS, file=file)))
    second.randomness.seed = 4
    run(second)
    assert not (tmp_path / 'second' / 'targets').exists()
    third = config_of('third', dict(cache=dict(views=VIEWS)))
    third.randomness.seed = 4
    run(third)
    assert_same_weights(student(second), student(third))
    assert json.loads((tmp_path / 'second' / 'stages.json').read_text())['targets']['result']['teachers'] == 3


@pytest.mark.parametrize('change,word', [
    (dict(tau=3.0), 'target.tau was 4.0, now 3.0'), (dict(aggregation='loss'), "target.aggregation was 'prob', now 'loss'")])
def test_targets_of_another_loss_are_not_taken_over(config_of, tmp_path, change, word):
    RUNNERS.build(config_of('first', dict(cache=dict(views=VIEWS)))).train(until='targets')
    second = config_of('second', dict(change, cache=dict(views=VIEWS, file=str(tmp_path / 'first' / 'targets'))))
    with pytest.raises(ConfigError, match=word):
        run(second)


def test_targets_of_other_teachers_and_images_are_not_taken_over(config_of, tmp_path):
    RUNNERS.build(config_of('first', dict(cache=dict(views=VIEWS)))).train(until='targets')
    second = config_of('second', dict(cache=dict(views=VIEWS, file=str(tmp_path / 'first' / 'targets'))))
    second.selector = 'last'
    with pytest.raises(ConfigError, match='was made with other settings: .*teachers.1.sha256'):
        run(second)
    third = config_of('third', dict(cache=dict(views=VIEWS, file=str(tmp_path / 'first' / 'targets'))))
    third.train_dataloader.dataset.pipeline[0].padding = 1
    with pytest.raises(ConfigError, match='dataset.dataset.pipeline.0.padding was 2, now 1'):
        run(third)


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
    """They are not needed any more, but they are there."""
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    RUNNERS.build(config).train(until='targets')
    trajectory(tmp_path / 'other', epochs=(1, 2, 3), seed=100)
    config.teacher.trajectory = str(tmp_path / 'other')
    refused_when_resumed(config, 'stage teacher was finished with other settings')
    next((tmp_path / 'other').glob('snapshots/*.pth')).unlink()
    refused_when_resumed(config, 'stage teacher was finished with other settings')


def test_a_damaged_teacher_is_not_gone(config_of, tmp_path):
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    RUNNERS.build(config).train(until='targets')
    file = tmp_path / 'given' / 'snapshots' / 'epoch_3.pth'
    file.write_bytes(file.read_bytes()[:-1])
    config.resume = True
    with pytest.raises(CkdError, match='epoch_3.* is damaged'):
        run(config)


def test_another_loss_on_resume_is_refused(config_of, tmp_path):
    """Whether the teachers are there, or not."""
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    RUNNERS.build(config).train(until='targets')
    config.distill.tau = 1.0
    refused_when_resumed(config, 'target.tau was 4.0, now 1.0')
    shutil.rmtree(tmp_path / 'given')
    refused_when_resumed(config, 'target.tau was 4.0, now 1.0')


def test_teachers_without_a_manifest_may_be_removed_too(config_of, tmp_path):
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    config.teacher = dict(trajectory=str(tmp_path / 'given' / 'snapshots'), model=with_statistics(resnet(2)))
    (tmp_path / 'given' / 'trajectory.json').unlink()
    RUNNERS.build(config).train(until='targets')
    shutil.rmtree(tmp_path / 'given')
    config.resume = True
    assert run(config)['student']['epoch'] == EPOCHS


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
    with pytest.raises(CkdError, match=r'image 7 in view [01] is not the one that the teachers saw .*\(and so are 0 more of'):
        run(config)


class Changing:
    """The image with index 7 is another one after so many calls."""
    calls_left = 10**9

    def __call__(self, item: dict) -> dict:
        Changing.calls_left -= 1
        if Changing.calls_left < 0 and item['sample_idx'] == 7:
            item['img'] = item['img'][:, ::-1].copy()
        return item


def test_targets_of_more_images_are_not_taken_over(config_of, tmp_path):
    RUNNERS.build(config_of('first', dict(cache=dict(views=VIEWS)))).train(until='targets')
    second = config_of('second', dict(cache=dict(views=VIEWS, file=str(tmp_path / 'first' / 'targets'))))
    second.train_dataloader.dataset.indices = IMAGES - 1
    with pytest.raises(ConfigError, match=f'has targets of {IMAGES} images, and the student is trained on {IMAGES - 1}'):
        preflight(second, log=lambda line: None)


def test_another_batch_size_is_said(config_of, tmp_path):
    RUNNERS.build(config_of('first', dict(cache=dict(views=VIEWS)))).train(until='targets')
    for name, batch, said in (('same', BATCH, 0), ('smaller', 3, 1)):
        config = config_of(name, dict(cache=dict(views=VIEWS, file=str(tmp_path / 'first' / 'targets'))))
        config.train_dataloader.batch_size = batch
        RUNNERS.build(config).train(until='targets')
        log = (tmp_path / name / 'ckd_mm.log').read_text()
        assert log.count(f'were made {BATCH} images at a time and this run has batches of {batch}') == said


def test_where_images_in_memory_are_is_no_part_of_the_fingerprint(config_of):
    found = []
    for device in (None, 'cuda:1'):
        config = config_of(distill=dict(cache=dict(views=VIEWS)))
        config.train_dataloader.dataset = dict(type='ckd_mm.InMemory', dataset=config.train_dataloader.dataset, device=device)
        plan = make_plan(config)
        found.append(target_stage.fingerprint(plan.targets_config(plan.links[0], dict(type='none'), True), []))
    assert found[0] == found[1] and found[0]['dataset']['dataset']['indices'] == IMAGES


def test_what_was_just_written_is_not_read_again(config_of, monkeypatch, tmp_path):
    read, original = [], target_file.sha256_of_file
    for module in (target_file, target_writer):
        monkeypatch.setattr(module, 'sha256_of_file', lambda path: read.append(path.stem) or original(path))
    config = config_of(distill=dict(cache=dict(views=VIEWS)))
    RUNNERS.build(config).train(until='targets')
    assert sorted(read) == ['log_p', 'mark', 'predicted']
    other = config_of('other', dict(cache=dict(views=VIEWS)))
    read.clear()
    run(other)
    assert sorted(read) == ['log_p', 'mark', 'predicted']
    read.clear()
    config.resume = True
    run(config)  # another process may have written since
    assert sorted(read) == ['log_p', 'mark', 'predicted']


def test_a_process_that_fails_says_so_before_it_waits_for_the_others(config_of, monkeypatch):
    happened, gather = [], target_stage.all_gather_object

    def fail(*args):
        raise OSError('the file system is gone')

    monkeypatch.setattr(target_writer.TargetWriter, 'write', fail)
    monkeypatch.setattr(MMLogger, 'error', lambda logger, text: happened.append(text))
    monkeypatch.setattr(target_stage, 'all_gather_object', lambda found: happened.append('gathered') or gather(found))
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
    """The second generation learns from targets of the first, and from other pixels than another seed would augment."""
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


def test_in_channels_last_too(config_of):
    """The hook changes how teachers compute, so it must work in the stage that asks them."""
    cached, plain = config_of('cached', dict(cache=dict(views=VIEWS))), uncached(config_of('plain', dict(cache=dict(views=VIEWS))))
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
    assert make_plan(cached).student_config([dict(file='x.pth')]).train_dataloader.dataset.type == 'ckd_mm.InMemory'
    assert_same_weights(student(cached), student(plain))


def test_a_schedule_may_ask_the_teacher_about_other_images(distil_run):
    """Held-out images, which are not among the kept."""
    config = distil_run()
    config.selector, config.probe = 'last', None
    config.distill.cache = dict(views=VIEWS)
    config.distill.schedule = dict(type='ckd_mm.StopWhenOvertakenHook', held_out=16)
    run(config)
    assert TargetFile(Path(config.work_dir) / 'targets').layout.images == 64 - 16
    assert 'The teacher classifies' in ''.join(file.read_text() for file in Path(config.work_dir).glob('student/*/*.log'))


def test_the_student_alone_sees_the_same_images(config_of):
    config = config_of(distill=dict(cache=dict(views=VIEWS)), student_alone=True)
    alone, taught = make_plan(config).student_alone_config(), make_plan(config).student_config([dict(file='x.pth')])
    assert alone.train_dataloader == taught.train_dataloader
    assert alone.train_dataloader.sampler == dict(type='ckd_mm.ViewSampler', shuffle=True, views=VIEWS)
    assert alone.train_dataloader.dataset.seed == 0


# ------------------------------------------------------------ what cannot be
RECORDER = dict(type='mmrazor.ConfigurableDistiller')


@pytest.mark.parametrize('distill,words', [
    (dict(cache=dict(view=2)), "unknown key 'view'; did you mean 'views'"),
    (dict(cache=dict()), 'distill.cache.views is missing'),
    (dict(cache=3), 'distill.cache=3 should be a dict'),
    (dict(cache=dict(views=0)), 'views=0 should be a whole number, at least 1'),
    (dict(cache=dict(views=6)), 'views=6: the student learns from its teachers for 5 epochs'),
    (dict(cache=dict(views=3), stop_epoch=2), 'views=3: the student learns from its teachers for 2 epochs'),
    (dict(cache=dict(views=2, dtype='bfloat16')), "dtype='bfloat16' should be one of"),
    (dict(cache=dict(views=2, top_k=10)), 'top_k=10 should be .* below the number of classes, 10'),
    (dict(cache=dict(views=2, file='nowhere')), "distill.cache.file='nowhere' should be the folder of finished targets"),
    (dict(cache=dict(views=2), distiller=RECORDER), 'a distiller reads the features'),
    (dict(cache=dict(views=2), schedule=dict(type='ckd_mm.ProgressiveTeacherHook')), 'ProgressiveTeacherHook changes it'),
    (dict(cache=dict(views=2), kd_weight=0), 'kd_weight=0 no teacher is asked'),
    (dict(cache=dict(views=2), tau=None, loss=dict(type='mmrazor.L2Loss')), 'has no method `target`')])
def test_refused_before_training(config_of, distill, words):
    with pytest.raises(ConfigError, match=words):
        preflight(config_of(distill=distill), log=lambda line: None)


@pytest.mark.parametrize('name,value,words', [
    ('train_dataloader.sampler', dict(type='RepeatAugSampler', _delete_=True), 'should be a DefaultSampler'),
    ('train_dataloader.num_batch_per_epoch', 2, 'train_dataloader.num_batch_per_epoch=2'),
    ('data_preprocessor.batch_augments', dict(augments=dict(type='Mixup', alpha=0.8)), 'images are mixed anew in every step'),
    ('model.train_cfg', dict(augments=dict(type='Mixup', alpha=0.8)), 'images are mixed anew in every step')])
def test_images_that_cannot_be_replayed_are_refused(config_of, name, value, words):
    with pytest.raises(ConfigError, match=words):
        preflight(config_of(distill=dict(cache=dict(views=2)), **{name: value}), log=lambda line: None)


def test_a_transform_with_random_numbers_of_its_own_is_refused(config_of):
    config = config_of(distill=dict(cache=dict(views=2)))
    config.train_dataloader.dataset.pipeline.insert(0, dict(type='OwnNoise'))
    with TRANSFORMS.switch_scope_and_registry('mmpretrain') as registry:
        registry.register_module(name='OwnNoise', module=OwnNoise, force=True)
    with pytest.raises(ConfigError, match='augmented in two ways in the same view'):
        preflight(config, log=lambda line: None)


def test_a_mirror_image_of_its_own_is_refused_every_time(config_of):
    """Half of the images are the same in both looks."""
    config = config_of(distill=dict(cache=dict(views=2)))
    config.train_dataloader.dataset.pipeline = [dict(type='OwnFlip'), dict(type='PackInputs')]
    with TRANSFORMS.switch_scope_and_registry('mmpretrain') as registry:
        registry.register_module(name='OwnFlip', module=OwnFlip, force=True)
    for _ in range(6):
        with pytest.raises(ConfigError, match='augmented in two ways in the same view'):
            preflight(copy.deepcopy(config), log=lambda line: None)


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


def test_given_targets_of_a_teacher_yet_to_be_trained_are_refused(config_of, tmp_path):
    RUNNERS.build(config_of('first', dict(cache=dict(views=VIEWS)))).train(until='targets')
    config = config_of('second', dict(cache=dict(views=VIEWS, file=str(tmp_path / 'first' / 'targets'))))
    config.teacher = dict(model=resnet(2), snapshots=dict(interval=1), train_cfg=dict(max_epochs=3))
    with pytest.raises(ConfigError, match='is of teachers that are trained already: name them with teacher.trajectory'):
        preflight(config, log=lambda line: None)
    config = config_of('third', dict(cache=dict(views=1, file=str(tmp_path / 'first' / 'targets'))))
    with pytest.raises(ConfigError, match='distill.cache.views=1, and the targets in .* have 2'):
        preflight(config, log=lambda line: None)


def test_a_full_disk_is_said_before_training(config_of, monkeypatch):
    from ckd_mm.runner import preflight as module
    usage = shutil.disk_usage('/')
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage._replace(free=1000))
    with pytest.raises(CkdError, match='the targets of distill.cache need 0.00 GiB .*keep less of them'):
        module(config_of(distill=dict(cache=dict(views=2))), log=lambda line: None)


def test_peers_and_students_alone_have_nothing_to_keep(config_of):
    for key, value, words in (('peer', dict(model=resnet()), r"distill \(with `peer`\): unknown key 'cache'"),
                              ('teacher', None, 'distill: with teacher=None nothing is distilled')):
        config = config_of(distill=dict(cache=dict(views=2)))
        config.teacher = config.selector = None
        config[key] = value
        with pytest.raises(ConfigError, match=words):
            preflight(config, log=lambda line: None)
