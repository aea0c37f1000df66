"""The whole method in one process."""

import json
import os
from pathlib import Path

import pytest
import torch
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from sklearn.datasets import load_digits

from ckd_mm.errors import ConfigError, SnapshotError
from ckd_mm.pipeline.resumable_loop import ResumableEpochLoop

from ..conftest import STATISTICS, resnet
from ..helpers import opened


@pytest.fixture
def finished(distil_run):
    config = distil_run(student_alone=True)
    return config, RUNNERS.build(config).train()


def read(config, name):
    return json.loads((Path(config.work_dir) / name).read_text())


def test_results(finished):
    config, summary = finished
    work_dir = Path(config.work_dir)
    assert {
        'trajectory.json', 'information_plane.json', 'selection.json', 'summary.json', 'report.html',
        'student.pth', 'ckd_mm.log'
    } <= {path.name
          for path in work_dir.iterdir()}
    assert summary == read(config, 'summary.json')
    assert set(summary['seconds']) == {'teacher', 'probe', 'select', 'student', 'student_alone'}
    assert summary['versions']['torch'] == torch.__version__
    assert [entry['epoch'] for entry in read(config, 'trajectory.json')['snapshots']] == [1, 2, 3]

    # T* by hand from the numbers on disk
    points = read(config, 'information_plane.json')['points']

    def scaled(name):
        values = [point[name] for point in points]
        return [(value - min(values)) / (max(values) - min(values)) if max(values) > min(values) else 0
                for value in values]

    sums = [x + y for x, y in zip(scaled('information_x'), scaled('information_y'))]
    assert summary['selection']['epochs'] == [points[sums.index(max(sums))]['epoch']] == read(
        config, 'selection.json')['epochs']

    # the student's accuracy by a second implementation: its weights, raw images from scikit-learn
    student = MODELS.build(dict(resnet(), data_preprocessor=dict(STATISTICS)))
    student.load_state_dict(torch.load(work_dir / 'student.pth', weights_only=True)['state_dict'],
                            strict=True)
    digits = load_digits()
    images = torch.from_numpy(digits.images[1297:1397]).float().mul(255 / 16).round()
    inputs = ((images - 77.9) / 95.9)[:, None].expand(-1, 3, -1, -1)
    with torch.no_grad():
        right = student.eval()(inputs).argmax(1).numpy() == digits.target[1297:1397]
    assert summary['student']['accuracy_top1'] == pytest.approx(100 * right.mean(), abs=1e-3)

    page = (work_dir / 'report.html').read_text()
    assert f'{summary["student"]["accuracy_top1"]:.2f}' in page and page.count('<svg') == 2
    assert 'src=' not in page and '<link' not in page, 'the page should be self-contained'


def test_the_student_is_that_of_the_config_and_learns_from_the_teacher(finished):
    config, _ = finished
    work_dir = Path(config.work_dir)
    distilled = torch.load(work_dir / 'student.pth', weights_only=True)['state_dict']
    files = list((work_dir / 'student_alone').glob('epoch_2.pth'))
    alone = torch.load(files[0], weights_only=False)['state_dict']
    assert distilled.keys() == alone.keys()
    assert any(not torch.equal(distilled[key], alone[key]) for key in alone)


def test_student_alone_is_plain_mmpretrain_training(finished, digits_run, tmp_path):
    config, _ = finished
    alone = torch.load(Path(config.work_dir) / 'student_alone' / 'epoch_2.pth',
                       weights_only=False)['state_dict']
    plain = Runner.from_cfg(digits_run(work_dir=tmp_path / 'plain')).train().state_dict()
    assert all(torch.equal(alone[key], plain[key]) for key in plain)


def test_a_run_closes_its_logs(distil_run):
    """A process that makes many runs would reach its limit of open files."""

    def open_logs() -> list[str]:
        found = [os.path.realpath(file) for file in Path('/proc/self/fd').iterdir()]
        return sorted(file for file in found if file.endswith('.log'))

    if not Path('/proc/self/fd').is_dir():
        pytest.skip('needs /proc')
    before = open_logs()
    config = distil_run(selector='last', probe=None, student_alone=True)
    RUNNERS.build(config).train()
    assert len(list(Path(config.work_dir).rglob('*.log'))) == 4, 'of the run, and of three trainings'
    assert open_logs() == before


def test_teacher_does_not_see_the_held_out_images(finished):
    from mmpretrain.registry import DATASETS
    run, stages = opened(finished[0])
    trained_on = DATASETS.build(stages['teacher'].config(run).train_dataloader.dataset)
    probed = stages['select'].probe.images
    assert (len(trained_on), len(probed)) == (48, 16)
    seen = {trained_on[index]['inputs'].numpy().tobytes() for index in range(48)}
    assert not seen & {image.numpy().tobytes() for image in probed.pixels}


def test_second_run_needs_resume_and_resume_repeats_nothing(finished):
    config, summary = finished
    work_dir = Path(config.work_dir)
    with pytest.raises(ConfigError, match='Pass --resume'):
        RUNNERS.build(config).train()
    before = {path: path.stat().st_mtime_ns for path in work_dir.rglob('*.pth')}
    config.resume = True
    again = RUNNERS.build(config).train()
    assert {path: path.stat().st_mtime_ns for path in work_dir.rglob('*.pth')} == before
    again['config'].pop('text'), summary['config'].pop('text')
    assert again == summary


def test_resume_with_other_settings_names_them(finished):
    config, _ = finished
    config.resume = True
    config.teacher.optim_wrapper = dict(optimizer=dict(lr=0.5))
    with pytest.raises(ConfigError, match='stage teacher was finished with other settings: '
                                          'optim_wrapper.optimizer.lr was 0.05, now 0.5'):
        RUNNERS.build(config).train()


def test_existing_checkpoints_teach_as_an_ensemble(digits_run, distil_run, tmp_path):
    """A folder of epoch_*.pth that an ordinary run left, its two phase ends as snapshot ensemble, stopped
    after one epoch."""
    ordinary = digits_run(epochs=4, work_dir=tmp_path / 'ordinary', model=resnet(2))
    ordinary.default_hooks.checkpoint.max_keep_ckpts = -1
    Runner.from_cfg(ordinary).train()
    config = distil_run()
    config.selector = dict(type='even', k=2)
    config.teacher = dict(trajectory=str(tmp_path / 'ordinary'))
    config.probe = None
    config.distill.stop_epoch = 1
    summary = RUNNERS.build(config).train()
    assert summary['selection']['epochs'] == [2, 4] and summary['cohort']['size'] == 2
    assert 'probe' not in summary['seconds'] and summary['seconds']['teacher'] < 1
    logs = [
        json.loads(line) for path in Path(config.work_dir).glob('student/*/vis_data/scalars.json')
        for line in path.read_text().splitlines()
    ]
    assert not any('loss_kd' in row and row['epoch'] == 2 for row in logs)


@pytest.mark.parametrize('selector, epochs', [('last', [3]), ('half_way', [2]),
                                              (dict(type='epoch', epochs=[1, 3]), [1, 3])])
def test_selectors_without_a_plane(distil_run, selector, epochs):
    config = distil_run()
    config.probe, config.selector = None, selector
    assert RUNNERS.build(config).train()['selection']['epochs'] == epochs


def test_the_distilled_student_teaches_the_next(distil_run, tmp_path):
    """A stage's folder inside a run that has a trajectory of its own: the checkpoints of that folder teach,
    not the run's."""
    RUNNERS.build(distil_run()).train()
    config = distil_run(work_dir=str(tmp_path / 'next'))
    config.teacher, config.probe, config.selector = dict(trajectory=str(tmp_path / 'run' /
                                                                        'student')), None, 'last'
    RUNNERS.build(config).train()
    selection = read(config, 'selection.json')
    teacher, = selection['teachers']
    assert (teacher['trajectory'], teacher['epoch']) == (str(tmp_path / 'run' / 'student'), 2)
    from ckd_mm.teachers import SnapshotEnsemble
    network = SnapshotEnsemble([teacher]).networks[0]
    first = torch.load(tmp_path / 'run' / 'student.pth', weights_only=True)['state_dict']
    assert all(torch.equal(network.state_dict()[key], value) for key, value in first.items())
    assert selection['teacher_metrics']['accuracy/top1'] == read(distil_run(),
                                                                 'summary.json')['student']['accuracy_top1']


@pytest.mark.parametrize('describe', [False, True])
def test_input_statistics_are_those_of_the_checkpoints(digits_run, distil_run, tmp_path, describe):
    """Whether or not the config describes the network too, a teacher sees inputs normalised as in its own
    training."""
    ordinary = digits_run(epochs=12, images=640, work_dir=tmp_path / 'ordinary', model=resnet(2))
    trained = Runner.from_cfg(ordinary)
    trained.train()
    config = distil_run()
    config.teacher, config.probe, config.selector = dict(trajectory=str(tmp_path / 'ordinary')), None, 'last'
    config.data_preprocessor = dict(num_classes=10, mean=[0.0] * 3,
                                    std=[255.0] * 3)  # the student's are others
    if describe:
        config.teacher.model = resnet(2)
    assert RUNNERS.build(config).train()['teacher']['accuracy_top1'] == pytest.approx(
        trained.test()['accuracy/top1'], abs=1e-3)


def test_a_started_stage_resumed_with_other_settings_names_them(distil_run, monkeypatch):
    """Two epochs without one part of the data and one without another would be neither."""
    from mmengine.runner import EpochBasedTrainLoop
    config = distil_run()
    run_epoch = EpochBasedTrainLoop.run_epoch
    monkeypatch.setattr(
        EpochBasedTrainLoop, 'run_epoch', lambda loop: (_ for _ in ()).throw(KeyboardInterrupt)
        if loop.epoch == 2 else run_epoch(loop))
    with pytest.raises(KeyboardInterrupt):
        RUNNERS.build(config).train()
    monkeypatch.undo()
    config.resume = True
    config.probe.seed = 7
    with pytest.raises(ConfigError, match=r'stage teacher was started with other settings: .*seed was 0, now '
                                          r'7'):
        RUNNERS.build(config).train()
    config.probe.pop('seed')
    assert len(RUNNERS.build(config).train()['selection']['epochs']) == 1


def test_a_run_that_failed_before_it_computed_anything_starts_anew(distil_run, monkeypatch):
    config = distil_run()
    config.train_dataloader.dataset.pipeline = [dict(type='NoSuchTransform')]
    with pytest.raises(ConfigError, match='train_dataloader.dataset cannot be read: '
                                          'KeyError.*NoSuchTransform'):
        RUNNERS.build(config).train()
    monkeypatch.setattr(ResumableEpochLoop, 'run_iter', lambda *args:
                        (_ for _ in ()).throw(MemoryError('in the first iteration')))
    with pytest.raises(MemoryError):
        RUNNERS.build(distil_run()).train()
    monkeypatch.undo()
    assert RUNNERS.build(distil_run()).train()['student']['epoch'] == 2


def test_a_resumed_run_needs_no_room_for_what_is_there(distil_run, monkeypatch):
    import shutil
    config = distil_run()
    RUNNERS.build(config).train()
    config.resume = True
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 0))
    RUNNERS.build(config).train()
    from ckd_mm.errors import CkdError
    fresh = distil_run(work_dir=config.work_dir + '_fresh')
    with pytest.raises(CkdError, match='keep fewer snapshots'):
        RUNNERS.build(fresh).train()


def test_resumed_without_the_given_teacher(digits_run, distil_run, tmp_path, monkeypatch):
    """What is missing is named, and once it is back the run goes on."""
    import shutil

    from mmengine.runner import EpochBasedTrainLoop
    Runner.from_cfg(digits_run(work_dir=tmp_path / 'ordinary', model=resnet(2))).train()
    config = distil_run()
    config.teacher, config.probe, config.selector = dict(trajectory=str(tmp_path / 'ordinary')), None, 'last'
    config.distill.stop_epoch = 1
    run_epoch = EpochBasedTrainLoop.run_epoch
    monkeypatch.setattr(
        EpochBasedTrainLoop, 'run_epoch', lambda loop: (_ for _ in ()).throw(KeyboardInterrupt)
        if loop.epoch == 1 else run_epoch(loop))
    with pytest.raises(KeyboardInterrupt):
        RUNNERS.build(config).train()
    monkeypatch.undo()
    shutil.move(tmp_path / 'ordinary', tmp_path / 'away')
    config.resume = True
    with pytest.raises(SnapshotError, match='no trajectory at .*ordinary'):
        RUNNERS.build(config).train()
    shutil.move(tmp_path / 'away', tmp_path / 'ordinary')
    assert RUNNERS.build(config).train()['student']['epoch'] == 2


def test_the_teacher_is_evaluated_once(distil_run, monkeypatch):
    """Promise 11: not in every epoch of the student; the number is in the log, in the summary and on the
    page."""
    from ckd_mm.pipeline import training_stage
    from ckd_mm.stages import select
    from ckd_mm.teachers import SnapshotEnsemble
    asked, predicted = [], []
    evaluate, predict = select.evaluate, SnapshotEnsemble.predict
    for module in (select, training_stage):
        monkeypatch.setattr(
            module, 'evaluate',
            lambda model, config, log, what: asked.append(what) or evaluate(model, config, log, what))
    monkeypatch.setattr(SnapshotEnsemble, 'predict',
                        lambda cohort, *args: predicted.append(1) or predict(cohort, *args))
    config = distil_run()
    config.probe, config.selector = None, dict(type='even', k=3)
    summary = RUNNERS.build(config).train()
    assert asked == ['the teacher', 'the cohort', 'the student']
    assert len(predicted) == 2, 'the 100 test images are one batch: once for the teacher, once for the cohort'
    work_dir = Path(config.work_dir)
    shown = f'{summary["teacher"]["accuracy_top1"]:.2f}'
    assert f'Teacher after epoch 3: {shown} % top-1' in (work_dir / 'ckd_mm.log').read_text()
    assert shown in (work_dir / 'report.html').read_text()
