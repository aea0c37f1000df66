"""Selectors and ensembles inside whole runs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ckd_mm.errors import ConfigError
from ckd_mm.fileio import read_json
from ckd_mm.infoplane.probe import Probe
from ckd_mm.runner import CheckpointDistillRunner, DistillationPlan, StudentTask
from ckd_mm.selection import build_selector
from ckd_mm.selection.conditional_mutual_information import conditional_mutual_information
from ckd_mm.trajectory import Trajectory

from ..conftest import resnet


@pytest.fixture(scope='module')
def teacher_run(tmp_path_factory):
    """Set by the first test that trains a teacher."""
    return tmp_path_factory.mktemp('family')


@pytest.fixture
def given(distil_run, teacher_run, tmp_path):
    """A config whose teacher was trained once for all tests here, with 3 snapshots."""

    def make(selector, **settings):
        if not (teacher_run / 'trajectory.json').exists():
            base = distil_run(work_dir=str(teacher_run))
            base.train_dataloader.dataset.indices = 200
            base.probe = dict(held_out=64)
            CheckpointDistillRunner(base).train(until='teacher')
        config = distil_run(work_dir=str(tmp_path / 'given'))
        config.train_dataloader.dataset.indices = 200
        config.teacher, config.probe, config.selector = dict(trajectory=str(teacher_run)), dict(held_out=64, decoder_epochs=1), selector
        config.merge_from_dict(settings)
        return config

    return make


def test_cmi_of_a_run_is_that_of_its_networks(given, teacher_run):
    config = given('cmi')
    config.probe = None
    summary = CheckpointDistillRunner(config).train()
    selection = read_json(config.work_dir + '/selection.json')
    probe = Probe(config)  # its defaults: a tenth of the training images
    expected = {}
    for snapshot in Trajectory.open(teacher_run):
        network = snapshot.build()
        inputs = network.data_preprocessor(dict(inputs=probe.images.pixels), False)['inputs']
        with torch.no_grad():
            expected[snapshot.epoch] = conditional_mutual_information(network(inputs).double().log_softmax(1), probe.images.labels).item()
    part = selection['by_trajectory'][0]
    assert {row['epoch']: row['score'] for row in part['scores']} == pytest.approx(expected, rel=1e-4)
    assert selection['epochs'] == [max(expected, key=expected.get)]
    assert part['cost']['teacher_forwards'] == len(probe.images) * 3  # one forward pass over the held-out images a snapshot
    assert 'probe' not in summary['seconds']  # the plane was not asked for


def test_student_gradient_sees_the_student(given):
    rows = {}
    for name, model in dict(narrow=resnet(), wide=resnet(channels=8)).items():
        config = given(dict(type='student_gradient', group_size=4, dimensions=16), work_dir=f'{given("last").work_dir}_{name}', model=model)
        CheckpointDistillRunner(config).train(until='select')
        rows[name] = read_json(config.work_dir + '/selection.json')['by_trajectory'][0]
    scores = [[row['score'] for row in part['scores']] for part in rows.values()]
    assert all(np.isfinite(scores[0])) and scores[0] != scores[1]
    assert all(part['cost']['teacher_forwards'] > 3 * 64 for part in rows.values())  # more than a forward pass over the images


def test_short_probe_halves_and_goes_on_where_it_stopped(given, monkeypatch):
    config = given(dict(type='short_probe', epochs=1), **{'train_cfg.max_epochs': 4})
    trained = []
    original = StudentTask._run

    def run(self, stage):
        runner = original(self, stage)
        trained.append((stage.work_dir.split('/')[-1], stage.train_cfg.max_epochs, len(runner.train_dataloader.dataset)))
        return runner

    monkeypatch.setattr(StudentTask, '_run', run)
    CheckpointDistillRunner(config).train(until='select')
    part = read_json(config.work_dir + '/selection.json')['by_trajectory'][0]
    # three for one epoch, the better two for two (half of three, rounded up), then one is left
    assert [(name, epochs) for name, epochs, _ in trained[:3]] == [('epoch_1', 1), ('epoch_2', 1), ('epoch_3', 1)]
    assert [epochs for _, epochs, _ in trained[3:]] == [2, 2] and all(images == 200 - 64 for *_, images in trained)
    first = {row['epoch']: row for row in part['scores']}
    second_round = [epoch for epoch, row in first.items() if row['score'] >= 100]
    assert {f'epoch_{epoch}' for epoch in second_round} == {name for name, *_ in trained[3:]}
    assert {first[epoch]['student_epochs'] for epoch in second_round} == {2}
    best = max(second_round, key=lambda epoch: first[epoch]['accuracy'])
    assert part['epochs'] == [best]
    # a student in its second round went on from its checkpoint: that of two epochs is there, with both epochs' iterations
    state = torch.load(f'{config.work_dir}/select/epoch_{best}/epoch_2.pth', weights_only=False)
    assert state['meta']['iter'] == 2 * -(-(200 - 64) // 16)


def test_ensemble_of_two_trainings(distil_run):
    config = distil_run()
    config.probe, config.selector = None, dict(type='ensemble', kind='mixed', k=2)
    config.teacher.snapshots = dict(epochs=[3])  # the selector's own wish, the half-way epoch 2, is added
    config.teacher.train_cfg.max_epochs = 4
    summary = CheckpointDistillRunner(config).train()
    first, second = Trajectory.open(config.work_dir), Trajectory.open(config.work_dir + '/teacher_2')
    assert (first.epochs, second.epochs) == ([2, 3], [3, 4])
    assert second.info['seed'] == first.info['seed'] + 1
    assert not all(torch.equal(left, right) for left, right in zip(first.at(3).state_dict().values(), second.at(3).state_dict().values()))
    selection = read_json(config.work_dir + '/selection.json')
    assert [(teacher['trajectory'], teacher['epoch']) for teacher in selection['teachers']] == \
        [(str(first.folder), 2), (str(second.folder), 4)]
    assert summary['cohort']['size'] == 2 and summary['cohort']['accuracy_top1'] is not None
    cost = summary['cost']
    assert (cost['teacher_epochs'], cost['student_epochs'], cost['total_epochs']) == (2 + 4, 2, 8)
    assert cost['teacher_hours'] == pytest.approx((first.at(2).seconds + second.at(4).seconds) / 3600)
    assert cost['total_hours'] == pytest.approx(cost['teacher_hours'] + summary['seconds']['student'] / 3600)
    assert 0 < first.at(2).seconds < first.at(3).seconds <= summary['seconds']['teacher'] + 0.01
    page = Path(config.work_dir, 'report.html').read_text()
    assert 'training cost: 6 epochs of teachers' in page and 'teacher_2' in page
    # the same from one option, over the trainings that exist
    again = distil_run(work_dir=config.work_dir + '_full')
    again.teacher = dict(trajectory=[config.work_dir, config.work_dir + '/teacher_2'])
    again.probe, again.selector = None, dict(type='ensemble', kind='full', k=2)
    CheckpointDistillRunner(again).train()
    assert read_json(again.work_dir + '/selection.json')['epochs'] == [3, 4]


def test_an_ensemble_asks_for_its_trajectories_before_training(given, teacher_run):
    config = given(dict(type='ensemble', kind='full', k=2))
    config.probe = None
    with pytest.raises(ConfigError, match='needs 2 trainings of the teacher, but teacher.trajectory names 1'):
        CheckpointDistillRunner(config).train()


def test_seeds_of_the_trainings(distil_run):
    config = distil_run()
    config.selector = dict(type='ensemble', kind='full', k=3)
    plan = DistillationPlan(config)
    assert [plan.teacher_config(run).randomness.seed for run in range(3)] == [3, 4, 5]
    assert plan.student_config([]).randomness.seed == 3
    assert [folder.name for folder in plan.trajectory_folders] == ['run', 'teacher_2', 'teacher_3']


def test_one_pass_selectors_need_no_decoder(given, monkeypatch):
    """`calibration` costs one forward pass over the held-out images and nothing else."""
    config = given('calibration')
    config.probe = None
    plan = DistillationPlan(config)
    assert build_selector('calibration').needs_images and not plan.measures_plane
    monkeypatch.setattr('ckd_mm.infoplane.estimators.information_x', lambda *args: pytest.fail('a decoder was trained'))
    CheckpointDistillRunner(config).train(until='select')
    rows = read_json(config.work_dir + '/select/scores_calibration.json')['rows']
    assert [row['epoch'] for row in rows] == [1, 2, 3] and all(row['score'] < 0 for row in rows)


def test_a_selection_for_another_student_is_refused(given):
    config = given('student_gradient')
    CheckpointDistillRunner(config).train(until='select')
    config.resume = True
    CheckpointDistillRunner(config).train(until='select')  # unchanged: nothing to do
    config.model = resnet(channels=8)
    with pytest.raises(ConfigError, match='select was finished with other settings: student.model.backbone.base_channels was 4, now 8'):
        CheckpointDistillRunner(config).train(until='select')
