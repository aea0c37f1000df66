"""A student that learns from cached targets is, bit for bit, the one with teacher forwards in every step."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import TRANSFORMS

from ckd_mm import distributed
from ckd_mm.data import Views
from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.files import read_json, write_json
from ckd_mm.pipeline.resumable_loop import ResumableEpochLoop
from ckd_mm.targets import TargetFile, TargetWriter, target_file, target_writer
from ckd_mm.teachers import SnapshotEnsemble
from ckd_mm.trajectory import Trajectory

from ..helpers import assert_same_weights, logged, open_logs, trajectory
from .conftest import BATCH, EPOCHS, IMAGES, VIEWS, run, student, uncached

ROWS = np.arange(IMAGES * VIEWS)


def targets_of(config, name: str = 'targets') -> TargetFile:
    return TargetFile(Path(config.work_dir) / name)


def scalars(config) -> list:
    """What the student's training logged once an epoch: of the training images, and of the validation."""
    rows = [{name: value for name, value in row.items() if name.startswith(('train/', 'kd/'))}
            for row in logged(Path(config.work_dir) / 'student')]
    return [row for row in rows if row]


# ------------------------------------------------------------ the same student
def in_memory(config) -> None:
    config.train_dataloader.dataset = dict(type='ckd_mm.InMemory', dataset=config.train_dataloader.dataset)
    config.train_dataloader.collate_fn = dict(type='ckd_mm.whole_batch')


def in_channels_last(config) -> None:
    config.custom_hooks.append(dict(type='ckd_mm.ChannelsLastHook'))


def of_two_generations(config) -> None:
    config.generations = 2


@pytest.mark.parametrize('distill, change, logged', [
    (dict(), of_two_generations, 2 * EPOCHS),
    (dict(aggregation='loss', reduction='sum'), in_channels_last, 2 * EPOCHS),
    (dict(aggregation='logit', teacher_weights=[1, 2, 3], standardize=True), in_memory, 2 * EPOCHS),
    (dict(tau=None, loss=dict(type='ckd_mm.DecoupledKDLoss', tau=2.0), stop_epoch=2), None, EPOCHS + 2),
])
def test_bit_for_bit(cached, monkeypatch, distill, change, logged):
    """Also in the batch of one image at the end of an epoch, of which the networks alone would make other
    last bits; and of a second generation, which learns from targets of the first."""
    monkeypatch.setattr('ckd_mm.students.taught_student.CHANNELS_LAST_ON', ())  # as on a GPU
    configs = [cached(name, distill=distill) for name in ('cached', 'uncached')]
    for config in configs:
        config.custom_hooks = [dict(type='ckd_mm.TrainAgreementHook')]
        config.val_evaluator = [dict(type='Accuracy'), dict(type='ckd_mm.KDMetric')]
        if change is not None:
            change(config)
    uncached(configs[1])
    before = open_logs()
    for config in configs:
        run(config)
    assert open_logs() == before, 'each stage closes its log'
    assert_same_weights(*map(student, configs))
    assert len(scalars(configs[0])) == logged and scalars(configs[0]) == scalars(configs[1])
    if change is of_two_generations:
        assert targets_of(configs[0], 'generation_1_targets').layout.teachers == 3
        assert targets_of(configs[0]).layout.teachers == 1


def test_heads_teach_through_targets_too(cached, tmp_path):
    heads = dict(out_indices=(0, 1), kind='flatten', train_cfg=dict(max_epochs=1))
    configs = [cached('cached', distill=dict(aggregation='loss'), heads=heads),
               uncached(cached('uncached', distill=dict(aggregation='loss')))]
    configs[1].heads = dict(file=str(tmp_path / 'cached' / 'heads.pth'))
    for config in configs:
        config.selector, config.train_cfg.max_epochs = 'last', 2
        run(config)
    assert targets_of(configs[0]).layout.teachers == 3
    assert_same_weights(*map(student, configs))


def test_rows_are_what_the_teachers_predict_of_that_view(targets_made, tmp_path):
    """Computed once more, one image at a time, by hand."""
    images = Views(targets_made.train_dataloader.dataset.to_dict(), seed=0)
    images.replay(0)
    mean, std = 77.9, 95.9
    networks = [snapshot.build() for snapshot in Trajectory.open(tmp_path / 'given')]
    probabilities = targets_of(targets_made).read(ROWS).log_p.exp()
    for row in (0, 5, IMAGES - 1, IMAGES, 2 * IMAGES - 1):
        inputs = (images[row]['inputs'].float()[None] - mean) / std
        with torch.no_grad():
            logits = torch.cat([network(inputs, mode='tensor') for network in networks])
        expected = (logits / 4.0).softmax(dim=1).mean(dim=0)
        torch.testing.assert_close(probabilities[row], expected, rtol=1e-5, atol=1e-7)
    assert not torch.equal(probabilities[5], probabilities[5 + IMAGES])


@pytest.mark.parametrize('settings', [dict(dtype='float16'), dict(top_k=4), dict(dtype='float16', top_k=9)])
def test_what_is_stored_shorter_teaches_nearly_the_same(targets_made, cached, settings):
    config = cached('short', dict(views=VIEWS, **settings))
    run(config, until='targets')
    assert not (Path(config.work_dir) / 'student').exists()
    full, short = (targets_of(made) for made in (targets_made, config))
    assert short.layout.bytes < full.layout.bytes
    exact, stored = (file.read(ROWS).log_p.exp() for file in (full, short))
    torch.testing.assert_close(stored.sum(dim=1), torch.ones(len(ROWS)))
    largest = exact.topk(settings.get('top_k', 10), dim=1).indices
    torch.testing.assert_close(stored.gather(1, largest), exact.gather(1, largest), rtol=5e-3, atol=1e-4)


@pytest.mark.parametrize('settings', [
    dict(num_workers=2, persistent_workers=True),
    # some are of worker processes alone, and the first batch is made without
    dict(num_workers=1, timeout=60, multiprocessing_context='fork', prefetch_factor=2)])
def test_worker_processes_augment_the_same_images(targets_made, cached, settings):
    config = cached('workers')
    config.train_dataloader.update(settings)
    run(config, until='targets')
    assert torch.equal(*(targets_of(made).read(ROWS).log_p for made in (targets_made, config)))


def test_short_trials_of_a_selector_see_views_too(cached):
    """With teacher forwards of their own: what is cached is of those that the selector chooses."""
    config = cached()
    config.selector, config.probe, config.train_cfg.max_epochs = dict(type='short_probe',
                                                                      epochs=1), dict(held_out=8), 2
    assert run(config, until='targets') is None and targets_of(config).layout.images == IMAGES


# ------------------------------------------------------------ killed, resumed, changed
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


def test_killed_while_targets_are_made_and_while_the_student_learns(cached, monkeypatch, tmp_path):
    """SIGKILL, twice. The seconds before count, too."""
    monkeypatch.setattr(target_writer, 'BATCHES_A_BLOCK', 1)
    unbroken, broken = cached('unbroken'), cached('broken')
    broken.rehearsal = False  # its steps would count
    for config in (unbroken, broken):
        config.custom_hooks = [dict(type='ckd_mm.TrainAgreementHook')]
    run(unbroken)
    with monkeypatch.context() as patch:
        kill_at(patch, TargetWriter, 'done', 4)
        killed_by_itself(lambda: run(broken))
    folder = tmp_path / 'broken' / 'targets'
    progress, before = np.load(folder / 'progress.npy'), np.load(folder / 'log_p.npy')
    assert progress.tolist() == [1, 1, 1, 0, 0] and not (tmp_path / 'broken' / 'student').exists()
    record = read_json(folder / 'targets.json')
    write_json(folder / 'targets.json', dict(record, seconds=1000 + record['seconds']))
    broken.resume = True
    with monkeypatch.context() as patch:
        kill_at(patch, ResumableEpochLoop, 'run_iter', 8)  # in the third epoch of three batches
        killed_by_itself(lambda: run(broken))
    assert (tmp_path / 'broken' / 'student' / 'epoch_2.pth').exists()
    after = np.load(folder / 'log_p.npy')
    assert np.array_equal(before[:3 * BATCH], after[:3 * BATCH])
    assert np.array_equal(after, np.load(tmp_path / 'unbroken' / 'targets' / 'log_p.npy'))
    assert 1000 < read_json(tmp_path / 'broken' / 'stages.json')['targets']['seconds'] < 1600
    run(broken)
    assert_same_weights(student(unbroken), student(broken))


def test_the_teachers_are_needed_for_their_targets_alone(targets_made, cached, monkeypatch, tmp_path):
    """None is built while the student learns, and files are read once: those that this process has just
    written are not read again. A removed teacher is named, and its targets are not lost."""
    snapshot, log_p = tmp_path / 'given/snapshots/epoch_3.pth', tmp_path / 'run/targets/log_p.npy'
    written, read, original = log_p.stat().st_mtime_ns, [], target_file.sha256_of_file
    for module in (target_file, target_writer):
        monkeypatch.setattr(module, 'sha256_of_file', lambda path: read.append(path.stem) or original(path))
    removed = snapshot.rename(tmp_path / 'elsewhere.pth')
    with pytest.raises(CkdError, match=r'given/snapshots/epoch_3\.pth.* does not exist; restore the file'):
        run(targets_made)
    removed.rename(snapshot)
    with monkeypatch.context() as patch:
        patch.setattr(SnapshotEnsemble, '__init__', None)
        run(targets_made)
    assert log_p.stat().st_mtime_ns == written
    assert sorted(read) == ['checksum', 'log_p', 'predicted']  # another process may have written since
    read.clear()
    other = cached('other', dict(views=1))
    run(other)
    assert sorted(read) == ['checksum', 'log_p', 'predicted']
    ends = student(targets_made), student(other)
    assert any(not torch.equal(ends[0][key], ends[1][key]) for key in ends[0]), 'other views, another student'


def test_removed_targets_are_made_again(targets_made):
    for file in targets_of(targets_made).folder.glob('*.*'):
        file.unlink()
    run(targets_made, until='targets')
    targets_of(targets_made).check()


def test_a_finished_student_needs_no_targets(cached, tmp_path):
    config = cached()
    config.train_cfg.max_epochs = 2
    run(config)
    shutil.rmtree(tmp_path / 'run' / 'targets')
    config.resume = True
    run(config)


def other_teachers(config, given: Path) -> None:
    config.teacher.trajectory = str(trajectory(given.parent / 'other', seed=100).folder)


def damaged_teacher(config, given: Path) -> None:
    file = given / 'snapshots' / 'epoch_3.pth'
    file.write_bytes(file.read_bytes()[:-1])


def mixed(key: str):
    return lambda config, given: config.merge_from_dict({key: dict(augments=dict(type='Mixup', alpha=0.8))})


@pytest.mark.parametrize('change, error, words', [
    (other_teachers, ConfigError, 'stage teacher was finished with other settings'),
    (damaged_teacher, CkdError, 'epoch_3.* is damaged'),
    (lambda config, given: config.distill.update(tau=1.0), ConfigError, 'target.tau was 4.0, now 1.0'),
    (mixed('data_preprocessor.batch_augments'), ConfigError, 'images are mixed anew in every step'),
    (mixed('model.train_cfg'), ConfigError, 'images are mixed anew in every step')])
def test_other_settings_are_refused_when_resumed(targets_made, tmp_path, change, error, words):
    change(targets_made, tmp_path / 'given')
    with pytest.raises(error, match=words):
        run(targets_made)
    assert not (tmp_path / 'run' / 'student').exists()


class Changing:
    """The image with index 7 is another one after so many calls."""
    calls_left = 10**9

    def __call__(self, item: dict) -> dict:
        Changing.calls_left -= 1
        if Changing.calls_left < 0 and item['sample_idx'] == 7:
            item['img'] = item['img'][:, ::-1].copy()
        return item


def test_images_that_change_while_the_student_learns_are_found(cached, monkeypatch, tmp_path):
    """At once on a CPU; on a GPU, where checksums are compared every 50 batches, before a checkpoint is
    written: a run that is resumed should not go on behind them."""
    monkeypatch.setattr(Changing, 'calls_left', 10**9)
    with TRANSFORMS.switch_scope_and_registry('mmpretrain') as registry:
        registry.register_module(name='Changing', module=Changing, force=True)
    config = cached()
    config.train_dataloader.dataset.pipeline.insert(0, dict(type='Changing'))
    run(config, until='targets')
    config.resume = True
    checked = 2 * 32  # images that are augmented twice before the training
    for at_once, last in ((('cpu', ), 'epoch_1.pth'), ((), 'epoch_2.pth')):
        monkeypatch.setattr(target_file, 'VERIFIED_AT_ONCE', at_once)
        Changing.calls_left = checked + IMAGES  # in the epoch after the next
        with pytest.raises(CkdError, match=r'image 7 in view [01] is not the one that the teachers saw '
                                           r'.*\(and so are 0 more of'):
            run(config)
        assert max(file.name for file in (tmp_path / 'run' / 'student').glob('*.pth')) == last
    Changing.calls_left = 10**9
    run(config)
    unbroken = cached('unbroken')
    run(unbroken)
    assert_same_weights(student(config), student(unbroken))


def test_a_process_that_fails_logs_it_before_it_waits_for_the_others(cached, monkeypatch):
    happened, gather = [], distributed.all_gather_object

    def fail(*args):
        raise OSError('the file system is gone')

    monkeypatch.setattr(TargetWriter, 'write', fail)
    monkeypatch.setattr(MMLogger, 'error', lambda logger, text: happened.append(text))
    monkeypatch.setattr(distributed, 'all_gather_object',
                        lambda found: happened.append('gathered') or gather(found))
    with pytest.raises(OSError, match='the file system is gone'):
        run(cached())
    assert happened[-2:] == ['Making targets failed in process 0: OSError: the file system is gone',
                             'gathered']
