"""The whole method in one process."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS

from ckd_mm.errors import CkdError, ConfigError, SnapshotError
from ckd_mm.pipeline import training_stage
from ckd_mm.pipeline.resumable_loop import ResumableEpochLoop
from ckd_mm.stages import select
from ckd_mm.teachers import SnapshotEnsemble

from ..conftest import distil_config, resnet
from ..helpers import accuracy, logged, logits_of, open_logs, opened, stopped_at, weights_of


def read(folder, name):
    return json.loads((Path(folder) / name).read_text())


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A finished run, with a baseline: its folder, its summary, the log files open before and after it."""
    folder, before = tmp_path_factory.mktemp('finished') / 'run', open_logs()
    summary = RUNNERS.build(distil_config(folder, student_alone=True)).train()
    return SimpleNamespace(folder=folder, summary=summary, logs=(before, open_logs()),
                           config=lambda **settings: distil_config(folder, student_alone=True, **settings))


def test_results(finished):
    folder, summary = finished.folder, finished.summary
    assert {'trajectory.json', 'information_plane.json', 'selection.json', 'summary.json', 'report.html',
            'student.pth', 'ckd_mm.log'} <= {path.name for path in folder.iterdir()}
    assert summary == read(folder, 'summary.json')
    assert set(summary['seconds']) == {'teacher', 'probe', 'select', 'student', 'student_alone'}
    assert summary['versions']['torch'] == torch.__version__
    assert [entry['epoch'] for entry in read(folder, 'trajectory.json')['snapshots']] == [1, 2, 3]

    # T* by hand from the numbers on disk
    points = read(folder, 'information_plane.json')['points']

    def scaled(name):
        values = [point[name] for point in points]
        low, high = min(values), max(values)
        return [(value - low) / (high - low) if high > low else 0 for value in values]

    sums = [x + y for x, y in zip(scaled('information_x'), scaled('information_y'))]
    assert summary['selection']['epochs'] == [points[sums.index(max(sums))]['epoch']] == read(
        folder, 'selection.json')['epochs']

    assert summary['student']['accuracy_top1'] == accuracy(logits_of(folder / 'student.pth'))

    page = (folder / 'report.html').read_text()
    assert f'{summary["student"]["accuracy_top1"]:.2f}' in page and page.count('<svg') == 2
    assert 'src=' not in page and '<link' not in page, 'the page should be self-contained'


def test_the_baseline_is_ordinary_mmpretrain_training(finished, digits_run):
    """The same network as the student, which learnt otherwise."""
    baseline = weights_of(finished.folder / 'student_alone' / 'epoch_2.pth')
    ordinary = Runner.from_cfg(digits_run()).train().state_dict()
    assert all(torch.equal(baseline[key], ordinary[key]) for key in ordinary)
    distilled = weights_of(finished.folder / 'student.pth')
    assert distilled.keys() == baseline.keys()
    assert any(not torch.equal(distilled[key], baseline[key]) for key in baseline)


def test_a_run_closes_its_logs(finished):
    """A process that makes many runs would reach its limit of open files."""
    assert len(list(finished.folder.rglob('*.log'))) == 4, 'of the run, and of three trainings'
    assert finished.logs[0] == finished.logs[1]


def test_the_teacher_does_not_see_the_held_out_images(finished):
    run, stages = opened(finished.config())
    trained_on = DATASETS.build(stages['teacher'].config(run).train_dataloader.dataset)
    probed = stages['select'].probe.images
    assert (len(trained_on), len(probed)) == (48, 16)
    seen = {trained_on[index]['inputs'].numpy().tobytes() for index in range(48)}
    assert not seen & {image.numpy().tobytes() for image in probed.pixels}


def test_a_second_run_needs_resume_and_resume_repeats_nothing(finished, monkeypatch):
    """Nor does it need room on the disk for what is there."""
    with pytest.raises(ConfigError, match='Pass --resume'):
        RUNNERS.build(finished.config()).train()
    before = {path: path.stat().st_mtime_ns for path in finished.folder.rglob('*.pth')}
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 0))
    again = RUNNERS.build(finished.config(resume=True)).train()
    assert {path: path.stat().st_mtime_ns for path in finished.folder.rglob('*.pth')} == before
    assert all(again[key] == value for key, value in finished.summary.items() if key != 'config')
    with pytest.raises(CkdError, match='keep fewer snapshots'):
        RUNNERS.build(distil_config(finished.folder.parent / 'fresh')).train()


def test_a_started_stage_resumed_with_other_settings_names_them(distil_run):
    """Two epochs without one part of the data and one without another would be neither."""
    config = distil_run()
    stopped_at(config, 'teacher', 2)
    config.probe.seed = 7
    with pytest.raises(ConfigError, match='teacher was started with other settings: .*seed was 0, now 7'):
        RUNNERS.build(config).train()
    config.probe.pop('seed')
    assert len(RUNNERS.build(config).train()['selection']['epochs']) == 1


def test_a_run_that_failed_before_it_computed_anything_starts_anew(distil_run, monkeypatch):
    config = distil_run()
    config.train_dataloader.dataset.pipeline = [dict(type='NoSuchTransform')]
    with pytest.raises(ConfigError, match="'NoSuchTransform' is registered nowhere"):
        RUNNERS.build(config).train()
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(ResumableEpochLoop, 'run_iter', lambda *args: (_ for _ in ()).throw(MemoryError))
        RUNNERS.build(distil_run(rehearsal=False)).train()
    RUNNERS.build(distil_run()).train(until='teacher')
    assert read(config.work_dir, 'stages.json')['teacher']['state'] == 'done'


def test_existing_checkpoints_teach_as_an_ensemble(digits_run, distil_run, tmp_path):
    """A folder of epoch_*.pth of an ordinary run, its two phase ends as snapshot ensemble, stopped after one
    epoch. Resumed without them, the run says what is missing; once they are back it goes on."""
    ordinary = digits_run(epochs=4, work_dir=tmp_path / 'ordinary', model=resnet(2))
    ordinary.default_hooks.checkpoint.max_keep_ckpts = -1
    Runner.from_cfg(ordinary).train()
    config = distil_run(selector=dict(_delete_=True, type='even', k=2), probe=None,
                        distill=dict(stop_epoch=1))
    config.teacher = dict(trajectory=str(tmp_path / 'ordinary'))
    stopped_at(config, 'student', 1)
    shutil.move(tmp_path / 'ordinary', tmp_path / 'away')
    with pytest.raises(SnapshotError, match='no trajectory at .*ordinary'):
        RUNNERS.build(config).train()
    shutil.move(tmp_path / 'away', tmp_path / 'ordinary')
    summary = RUNNERS.build(config).train()
    assert summary['selection']['epochs'] == [2, 4] and summary['cohort']['size'] == 2
    assert 'probe' not in summary['seconds'] and summary['seconds']['teacher'] < 1
    for key, epochs in (('loss', {1, 2}), ('loss_kd', {1})):
        assert {row['epoch'] for row in logged(Path(config.work_dir) / 'student', key)} == epochs


def test_the_distilled_student_teaches_the_next(finished, distil_run):
    """A stage's folder inside a run that has a trajectory of its own: the checkpoints of that folder teach,
    not the run's."""
    config = distil_run(probe=None, selector='last')
    config.teacher = dict(trajectory=str(finished.folder / 'student'))
    RUNNERS.build(config).train(until='select')
    selection = read(config.work_dir, 'selection.json')
    teacher, = selection['teachers']
    assert (teacher['trajectory'], teacher['epoch']) == (str(finished.folder / 'student'), 2)
    taught = SnapshotEnsemble([teacher]).networks[0].state_dict()
    assert all(torch.equal(taught[key], value)
               for key, value in weights_of(finished.folder / 'student.pth').items())
    assert selection['teacher_metrics']['accuracy/top1'] == finished.summary['student']['accuracy_top1']


def test_input_statistics_are_those_of_the_checkpoints(digits_run, distil_run, tmp_path):
    """Whether or not the config describes the network too, a teacher sees inputs normalised as in its own
    training."""
    ordinary = digits_run(epochs=6, images=640, work_dir=tmp_path / 'ordinary', model=resnet(2))
    trained = Runner.from_cfg(ordinary)
    trained.train()
    expected = trained.test()['accuracy/top1']
    for name, described in (('bare', {}), ('described', dict(model=resnet(2)))):
        config = distil_run(work_dir=tmp_path / name, probe=None, selector='last')
        config.teacher = dict(trajectory=str(tmp_path / 'ordinary'), **described)
        config.data_preprocessor = dict(num_classes=10, mean=[0.0] * 3, std=[255.0] * 3)  # the student's
        RUNNERS.build(config).train(until='select')
        found = read(config.work_dir, 'selection.json')['teacher_metrics']['accuracy/top1']
        assert found == pytest.approx(expected, abs=1e-3), name


def test_the_teacher_is_evaluated_once(distil_run, monkeypatch):
    """Promise 11: not in every epoch of the student; the number is in the log, in the summary and on the
    page."""
    evaluations, predictions = [], []
    evaluate, forward = select.evaluate, SnapshotEnsemble.forward

    def counted(model, config, log, what, few=False):
        evaluations.extend([] if few else [what])
        return evaluate(model, config, log, what, few)

    def counted_forward(cohort, *args, mode='tensor', **data):
        predictions.extend([mode] * (mode == 'predict'))
        return forward(cohort, *args, mode=mode, **data)

    for module in (select, training_stage):
        monkeypatch.setattr(module, 'evaluate', counted)
    monkeypatch.setattr(SnapshotEnsemble, 'forward', counted_forward)
    config = distil_run(probe=None, selector=dict(_delete_=True, type='epoch', epochs=[1, 3]))
    summary = RUNNERS.build(config).train()
    assert summary['selection']['epochs'] == [1, 3]
    assert evaluations == ['the teacher', 'the cohort', 'the student']
    assert len(predictions) == 2, 'of one batch, the 100 test images: of the teacher and of the cohort'
    work_dir, shown = Path(config.work_dir), f'{summary["teacher"]["accuracy_top1"]:.2f}'
    assert f'Teacher after epoch 3: {shown} % top-1' in (work_dir / 'ckd_mm.log').read_text()
    assert shown in (work_dir / 'report.html').read_text()
