"""Teachers whose logits are divided by a temperature of their own, in whole runs."""

import pytest
import torch
from torch.testing import assert_close

from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.evaluation.temperature import fit_temperature
from ckd_mm.files import read_json
from ckd_mm.infoplane.probe import Probe
from ckd_mm.pipeline.build import open_run, stage_of
from ckd_mm.pipeline.runner import CheckpointDistillRunner
from ckd_mm.pipeline.store import read_records
from ckd_mm.stages.calibrate import CalibrateStage
from ckd_mm.teachers import SnapshotEnsemble, build_cohort
from ckd_mm.trajectory import Trajectory

from ..helpers import prepared

IMAGES = dict(held_out=64, seed=1)


@pytest.fixture
def calibrated(distil_run):
    """A config of two snapshots with a temperature each, and no information plane."""

    def make(**settings):
        config = distil_run()
        config.probe, config.selector = None, dict(type='even', k=2)
        config.distill.calibrate = IMAGES
        config.train_dataloader.dataset.indices = 400
        config.merge_from_dict(settings)
        return config

    return make


def test_each_teacher_has_the_temperature_of_its_held_out_images(calibrated):
    config = calibrated()
    summary = CheckpointDistillRunner(config).train()
    trajectory, images = Trajectory.open(config.work_dir), Probe(config, **IMAGES).images
    assert not Probe(config, **IMAGES).was_seen(trajectory) and len(images) == 64
    snapshots = [trajectory.at(epoch) for epoch in read_json(f'{config.work_dir}/selection.json')['epochs']]
    expected, networks = [], [snapshot.build() for snapshot in snapshots]
    for network in networks:
        inputs = network.data_preprocessor(dict(inputs=images.pixels), False)['inputs']
        with torch.no_grad():
            expected.append(fit_temperature(network(inputs), images.labels))
    assert summary['temperatures'] == pytest.approx(expected, rel=1e-4)
    assert min(abs(value - 1) for value in expected) > 0.01

    run, stages = open_run(config)
    run.results = {name: stage_of(stages, name).Result(**record['result']) for name, record in
                   read_records(run.work_dir).items()
                   if name in ('teacher', 'select', 'calibrate')}
    cohort = build_cohort(stage_of(stages, 'student').config(run).model.cohort)
    inputs = cohort.data_preprocessor(dict(inputs=images.pixels[:8]), False)['inputs']
    with torch.no_grad():
        assert_close(cohort(inputs), torch.stack([network(inputs) / temperature for network, temperature
                                                  in zip(networks, summary['temperatures'])]))
    page = (run.work_dir / 'report.html').read_text()
    assert 'Calibration of the teachers' in page and f'{expected[0]:.3f}' in page


def test_a_resumed_run_teaches_with_the_temperatures_that_it_has(calibrated, monkeypatch):
    CheckpointDistillRunner(calibrated()).train(until='calibrate')
    before = read_records(calibrated().work_dir)['calibrate']['result']['temperatures']
    monkeypatch.setattr(CalibrateStage, 'execute', lambda *_: pytest.fail('they are fitted again'))
    assert CheckpointDistillRunner(calibrated(resume=True)).train()['temperatures'] == before


@pytest.mark.parametrize('settings, message', [
    (dict(probe=dict(held_out=16, _delete_=True)), "'held_out': 64, 'seed': 1}: its images are those of"),
    (dict(selector='information_plane'), 'its images are those of `probe`; say it there'),
    (dict(heads=dict(out_indices=[0]), selector='last'), 'distill.calibrate scales snapshots, and heads'),
    ({'distill.cohort': dict(type='ckd_mm.SnapshotEnsemble')}, 'take it or distill.cohort out'),
    ({'distill.schedule': dict(type='ckd_mm.ProgressiveTeacherHook')}, 'take it or a ProgressiveTeacherHook'),
    ({'distill.calibrate': dict(images=64, _delete_=True)}, "unknown key 'images'"),
    ({'distill.calibrate': 'yes'}, "distill.calibrate='yes'")])
def test_what_cannot_be_calibrated_is_named(calibrated, settings, message):
    with pytest.raises(ConfigError, match=message):
        prepared(calibrated(**settings))


def test_a_teacher_that_has_seen_the_images_is_refused(calibrated, tmp_path):
    teacher = calibrated(work_dir=str(tmp_path / 'seen'), selector='last')
    teacher.distill.calibrate = False
    CheckpointDistillRunner(teacher).train(until='teacher')
    config = calibrated(selector='last')
    config.teacher = dict(trajectory=teacher.work_dir)
    with pytest.raises(ConfigError, match="a teacher is surer of those it has seen; say probe_split='test'"):
        prepared(config)
    config.distill.calibrate = dict(probe_split='test')
    prepared(config)


def test_temperatures_are_one_for_each_snapshot(tmp_path, distil_run):
    config = distil_run()
    CheckpointDistillRunner(config).train(until='teacher')
    snapshots = Trajectory.open(config.work_dir).snapshots
    with pytest.raises(ConfigError, match=r'temperatures=\[2.0\] should be 3 numbers'):
        SnapshotEnsemble(snapshots, temperatures=[2.0])
    with pytest.raises(ConfigError, match='temperatures=0'):
        SnapshotEnsemble(snapshots, temperatures=[1.0, 0, 1.0])


def test_a_teacher_without_a_best_temperature_ends_the_run(calibrated, monkeypatch, tmp_path):
    config = calibrated()
    monkeypatch.setattr('ckd_mm.stages.calibrate.predict_logits', lambda network, images, *_, **__: (
        torch.nn.functional.one_hot(images.labels, 10).double()))
    with pytest.raises(CkdError, match='distill.calibrate: snapshot .* 100.0% are right: .*teacher is kept'):
        CheckpointDistillRunner(config).train(until='calibrate')
    monkeypatch.undo()
    other = calibrated(work_dir=str(tmp_path / 'other'))  # the way out
    other.teacher, other.distill.calibrate = dict(trajectory=config.work_dir), dict(probe_split='test')
    assert len(CheckpointDistillRunner(other).train()['temperatures']) == 2
