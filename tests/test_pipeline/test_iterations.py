"""Runs that count iterations: teacher, plane, selection, schedules, students and their pages."""

import copy
import functools
import json
import signal
from operator import getitem
from pathlib import Path

import pytest
from mmengine.registry import RUNNERS

from ckd_mm.errors import ConfigError
from ckd_mm.pipeline.rehearsal_runner import RehearsalRunner
from ckd_mm.pipeline.resumable_loop import ResumableIterLoop
from ckd_mm.signals import Stopped
from ckd_mm.trajectory import Trajectory

from ..conftest import resnet
from ..faults.signals import sent, steps_of
from ..helpers import assert_same_weights, logged, train, vision_transformer, weights_of

LOOP = dict(type='IterBasedTrainLoop', max_iters=10, val_interval=5)
CROP = [dict(type='RandomCrop', crop_size=8, padding=1), dict(type='PackInputs')]


class Killed(BaseException):
    """Stands for a kill in the middle of an iteration; nothing catches it."""


@pytest.fixture
def by_iterations(distil_run, tmp_path):
    """Makes a run of 64 images in batches of 16, so that 10 iterations are two and a half epochs of them."""

    def make(name='run', sampler='DefaultSampler', **settings):
        config = distil_run(dict(snapshots=dict(interval=4)), work_dir=tmp_path / name)
        config.train_cfg, config.teacher.train_cfg = dict(LOOP), dict(LOOP, _delete_=True)
        config.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=3,
                                               max_keep_ckpts=2)
        config.train_dataloader.dataset.pipeline = CROP
        config.train_dataloader.sampler = dict(type=sampler, shuffle=True)
        config.merge_from_dict(copy.deepcopy(settings))
        return config

    return make


def trained(config) -> dict:
    RUNNERS.build(config).train()
    return json.loads(Path(config.work_dir, 'summary.json').read_text())


def images_of(config, stage: str, kill_at: int | None = None) -> list:
    """Run it, and stop in an iteration of a stage, counted from 0: the images of its batches before."""
    run_iter, found = ResumableIterLoop.run_iter, []

    def noting(loop, data_batch) -> None:
        if not isinstance(loop.runner, RehearsalRunner) and Path(loop.runner.work_dir).name == stage:
            if loop.iter == kill_at:
                raise Killed
            found.append([sample.sample_idx for sample in data_batch['data_samples']])
        run_iter(loop, data_batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResumableIterLoop, 'run_iter', noting)
        try:
            RUNNERS.build(config).train()
        except Killed:
            assert kill_at is not None
    return found


def test_a_whole_run(by_iterations):
    config = by_iterations(student_alone=True, student_snapshots=dict(iters=[5]))
    summary, folder = trained(config), Path(config.work_dir)
    teacher = Trajectory.open(folder)
    assert teacher.times == [4, 8, 10] and teacher.length.text == '10 iterations'
    manifest = json.loads((folder / 'trajectory.json').read_text())
    assert (manifest['max_iters'], manifest['snapshot_iters']) == (10, [4, 8, 10])
    assert [(row['iteration'], row['file']) for row in manifest['snapshots']] == [
        (time, f'snapshots/iter_{time}.pth') for time in (4, 8, 10)]
    assert not any('epoch' in row for row in (manifest, *manifest['snapshots']))
    assert_same_weights(teacher.last.state_dict(), weights_of(folder / 'teacher' / 'iter_10.pth'))
    curve = logged(folder / 'teacher', 'accuracy/top1')
    assert [row['step'] for row in curve] == [5, 10], 'validated when the loop says'
    assert teacher.last.accuracy == pytest.approx(curve[-1]['accuracy/top1'])
    plane = json.loads((folder / 'information_plane.json').read_text())
    assert [point['epoch'] for point in plane['points']] == [4, 8, 10] and plane['notes']['unit'] == 'iter'
    assert summary['selection']['epochs'] == [plane['best_epoch']] and summary['unit'] == 'iter'
    assert Trajectory.open(folder / 'student').times == [5]
    page, log = (folder / 'report.html').read_text(), (folder / 'ckd_mm.log').read_text()
    assert f'iteration {plane["best_epoch"]}' in page and '(numbers: iterations)' in page
    assert f'{plane["best_epoch"]} iterations of teachers' in log
    assert [text for text in (page, log) if ' epoch' in text.split('Config')[0]] == []


@pytest.mark.parametrize('sampler', ['DefaultSampler', 'InfiniteSampler'])
def test_killed_and_resumed(by_iterations, tmp_path, sampler):
    """Inside the second epoch of the images, and where one ends: the same images and the same weights, though
    images are augmented at random and the network drops at random. Checkpoints are of iterations 3, 6, 9."""
    settings = dict(probe=None, selector='last', model=dict(vision_transformer(0.2, 0.2), _delete_=True))
    stages = dict(teacher=[], student=[])
    for stage in stages:
        unbroken = by_iterations(f'unbroken_{stage}', sampler, **settings)
        stages[stage] = images_of(unbroken, stage)
    for stage, kill, left in (('teacher', 7, 6), ('student', 8, 6), ('student', 4, 3)):
        config = by_iterations(f'broken_{stage}_{kill}', sampler, **settings)
        assert images_of(config, stage, kill) == stages[stage][:kill]
        config = by_iterations(f'broken_{stage}_{kill}', sampler, **settings, resume=True)
        assert images_of(config, stage) == stages[stage][left:]
        assert_same_weights(*(weights_of(tmp_path / name / 'student.pth') for name in (
            'unbroken_teacher', f'broken_{stage}_{kill}')))


def test_a_signal_before_a_validation(by_iterations, tmp_path):
    """The step is finished and written; the resumed run validates, and goes on with the next one."""
    settings = dict(probe=None, selector='last', model=dict(vision_transformer(0.2, 0.2), _delete_=True))
    unbroken, broken = (by_iterations(name, **settings) for name in ('unbroken', 'broken'))
    trained(unbroken)
    moment = (*steps_of('student', 'after_train_iter', 4), signal.SIGTERM)
    with pytest.raises(Stopped, match=r'after step 5 \(5 of 10\), which is in student/iter_5'), sent(*moment):
        RUNNERS.build(broken).train()
    broken.resume = True
    trained(broken)
    assert_same_weights(*(weights_of(tmp_path / name / 'student.pth') for name in ('unbroken', 'broken')))
    curves = [[(row['step'], row['accuracy/top1']) for row in logged(folder, 'accuracy/top1')]
              for folder in (tmp_path / 'unbroken' / 'student', tmp_path / 'broken' / 'student')]
    assert curves[0] == curves[1] and [step for step, _ in curves[0]] == [5, 10]
    assert not (tmp_path / 'broken' / 'student' / 'iter_5.pth').exists()


def test_stopped_early(by_iterations):
    """Best after two iterations, no better after four."""
    config = by_iterations(probe=None, selector='half_way', rehearsal=False)
    config.teacher.train_cfg.val_interval, config.teacher.snapshots = 2, dict(interval=3)
    config.teacher.custom_hooks = [dict(type='EarlyStoppingHook', monitor='accuracy/top1', rule='greater',
                                        patience=1, min_delta=101)]
    summary, manifest = trained(config), json.loads(Path(config.work_dir, 'trajectory.json').read_text())
    assert [row['iteration'] for row in manifest['snapshots']] == [3, 4]
    assert (manifest['max_iters'], manifest['planned_iters']) == (4, 10)
    assert summary['selection']['epochs'] == [3] and summary['cost']['total_epochs'] == 3 + 10
    assert summary['selection']['reason'].endswith('was stopped early, after 4 of 10 iterations')


def test_every_image_is_seen_before_one_is_seen_again(by_iterations):
    batches = images_of(by_iterations(probe=None, selector='last', rehearsal=False), 'student')
    epochs = [sorted(sum(batches[begin:begin + 4], [])) for begin in (0, 4)]
    assert epochs == [list(range(64))] * 2 and batches[:4] != batches[4:8]


# ---------------------------------------------------------------- checkpoints of others
@pytest.fixture
def theirs(digits_run, tmp_path):
    """Folder of an ordinary mmengine training by iterations."""
    config = digits_run(model=resnet(2), work_dir=tmp_path / 'theirs', log_processor=dict(by_epoch=False))
    config.train_cfg = dict(LOOP, max_iters=4, val_interval=2)
    config.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=1,
                                           max_keep_ckpts=3, save_best='auto')
    return Path(train(config).work_dir)


def test_checkpoints_of_an_ordinary_training(theirs, distil_run, tmp_path):
    """Of a folder, of the best, and of one whose ``meta`` alone tells; a student by epochs learns from
    them."""
    best, = theirs.glob('best_*.pth')
    assert Trajectory.open(theirs).times == [2, 3, 4] and Trajectory.open(theirs).unit == 'iter'
    for number, file in ((int(best.stem.rpartition('_')[2]), best), (3, tmp_path / 'mine.pth')):
        if not file.exists():
            file.write_bytes((theirs / 'iter_3.pth').read_bytes())
        assert Trajectory.open(file).last.when == f'iteration {number}'
    (tmp_path / 'best').mkdir()
    best.rename(tmp_path / 'best' / best.name)
    assert Trajectory.open(tmp_path / 'best').times == [int(best.stem.rpartition('_')[2])]

    config = distil_run(probe=None, selector='half_way', rehearsal=False)
    config.teacher = dict(trajectory=str(theirs))
    summary = trained(config)
    assert summary['selection']['epochs'] == [2] and 'cost' not in summary and 'unit' not in summary
    assert summary['selection']['reason'] == '0.5 of 4 iterations is 2'
    config.selector = dict(type='epoch', epochs=2)
    config.work_dir = str(tmp_path / 'other')
    with pytest.raises(ConfigError, match=r"^selector: epochs=\[2\], but the teacher was trained by iterati"
                                          r"ons: selector=dict\(type='iter', iters=\[...\]\)$"):
        RUNNERS.build(config).train()


# ---------------------------------------------------------------- what is refused
@pytest.mark.parametrize('key, value, message', [
    ('train_cfg.max_epochs', 2, '^train_cfg.max_epochs=2 counts epochs, and the rest of tra'),
    ('teacher.train_cfg', dict(_delete_=True, by_epoch=True, max_epochs=3),
     '^teacher.train_cfg counts epochs and train_cfg iterations: all trainings of a '),
    ('default_hooks.checkpoint.by_epoch', True, '^default_hooks.checkpoint counts epochs, as it does by '),
    ('param_scheduler', dict(type='CosineAnnealingLR', T_max=10), '^param_scheduler: Cosine'),
    ('distill.stop_epoch', 2, '^stop_epoch=2, but the training counts iterations: give .* stop_it'),
    ('distill.cache', dict(views=1), '^distill.cache counts epochs, and train_cfg counts iterations: '),
    ('selector', 'short_probe', "^selector='short_probe' counts epochs"),
    ('selector', dict(type='epoch', epochs=4), r"^selector: epochs=\[4\], .* selector=dict\(type='iter'"),
    ('selector', dict(type='iter', iters=[4, 11]), r'^selector: wants iterations \[4, 11\], .* it has'),
    ('teacher.snapshots', dict(epochs=[4]), r'^snapshots: epochs=\[4\], but the training '),
    ('teacher.snapshots', dict(iters=[11]), 'asks for iteration 11, but the run ends a'),
    ('student_snapshots', dict(phases=11), '^student_snapshots: phases=11 but the run has only 10 iter'),
    ('distill.schedule', dict(type='ckd_mm.StopWhenOvertakenHook'), '^StopWhenOvertakenHook: interval is')])
def test_what_counts_epochs_is_refused(by_iterations, key, value, message):
    config = by_iterations()
    *path, last = key.split('.')
    functools.reduce(getitem, path, config)[last] = value
    with pytest.raises(ConfigError, match=message):
        RUNNERS.build(config).train()
