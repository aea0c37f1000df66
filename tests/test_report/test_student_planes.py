"""tools/student_planes.py: a teacher and its students, trained and probed."""

import json
import runpy

import pytest
import torch
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ckd_mm.evaluation import predict_logits
from ckd_mm.infoplane import held_out_part, load_probe_images, probe_dataset
from ckd_mm.infoplane.probe import Probe
from ckd_mm.pipeline.build import open_run, stage_of
from ckd_mm.pipeline.stage_runner import StageRunner
from ckd_mm.trajectory import Trajectory

from ..conftest import ROOT
from ..helpers import assert_same_weights, train

SMOOTH = dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')


@pytest.fixture
def planes_tool(tool, tmp_path):
    """The tool on a config, with ``planes`` as work_dir: exit status, stdout, stderr."""

    def call(config, *arguments) -> tuple:
        config.custom_imports = dict(imports=['ckd_mm'], allow_failed_imports=False)
        config.dump(tmp_path / 'config.py')
        command = ('student_planes.py', tmp_path / 'config.py', '--work-dir', tmp_path / 'planes')
        return tool(*command, *arguments)

    return call


def read(*path):
    return json.loads(path[0].joinpath(*path[1:]).read_text())


def test_four_students(planes_tool, distil_run, digits_run, tmp_path, monkeypatch):
    config = distil_run(student_snapshots=dict(interval=1), student_alone=True)
    config.teacher.train_cfg.max_epochs = 4
    config.rehearsal = False  # what is finished must not train again, not even in a rehearsal
    work_dir = tmp_path / 'planes'
    status, out, _ = planes_tool(config)
    assert status == 0 and (work_dir / 'student_planes.png').read_bytes().startswith(b'\x89PNG')
    found = read(work_dir, 'planes.json')
    assert found['teaches'] == dict(full=[4], inter=[2])
    assert {role: [point['epoch'] for point in points] for role, points in found['planes'].items()} == dict(
        teacher=[1, 2, 3, 4], alone=[1, 2], full=[1, 2], inter=[1, 2], smooth=[1, 2])

    for arm, epochs in found['teaches'].items():
        assert read(work_dir, arm, 'selection.json')['epochs'] == epochs
    last = {arm: Trajectory.open(work_dir / arm / 'student').last
            for arm in ('alone', 'full', 'inter', 'smooth')}
    # no one was trained on the 16 images that are probed: 48 of 64 images are 3 batches of 16 an epoch
    assert {snapshot.iteration for snapshot in last.values()} == {2 * 3}
    for folder in (work_dir / 'teacher', *(work_dir / arm / 'student' for arm in last)):
        assert Trajectory.open(folder).info['held_out'].items() >= dict(held_out=16, seed=0).items()
        assert read(folder, 'information_plane.json')['notes']['teacher_trained_on_probe_images'] is False
    # the same, by mmpretrain's own training; I(Y;F), by another way to the logits
    images = load_probe_images(probe_dataset(config, 'held_out', 16, 0))
    for arm, loss in (('alone', dict(type='CrossEntropyLoss')), ('smooth', SMOOTH)):
        baseline = digits_run(epochs=2, work_dir=tmp_path / f'plain_{arm}')
        baseline.train_dataloader.dataset = held_out_part(baseline.train_dataloader.dataset, 16, 0, 'rest')
        baseline.model.head.loss = loss
        assert_same_weights(last[arm].state_dict(), train(baseline).model.state_dict())
    for arm, snapshot in last.items():
        logits = predict_logits(snapshot.build(), images, torch.device('cpu'))
        right = (logits.argmax(dim=1) == images.labels).double().mean().item()
        assert found['planes'][arm][-1]['information_y'] == pytest.approx(right)
        assert found['accuracy_top1'][arm] == pytest.approx(snapshot.accuracy, abs=1e-3)
        assert f'{snapshot.accuracy:.2f}' in out

    # again: refused, or nothing left to do
    status, _, err = planes_tool(config)
    assert status == 1 and 'Pass --resume' in err
    for owner, method in ((Runner, 'train'), (StageRunner, 'train'), (Probe, 'measure')):
        monkeypatch.setattr(owner, method, lambda *_, **__: pytest.fail('this was finished before'))
    (work_dir / 'student_planes.png').unlink()
    status, _, _ = planes_tool(config, '--resume', '--arms', 'full', 'smooth')
    again = read(work_dir, 'planes.json')
    assert status == 0 and again['planes'] == {
        role: found['planes'][role] for role in ('teacher', 'full', 'smooth')}
    assert again['teaches'] == dict(full=[4]) and (work_dir / 'student_planes.png').exists()


def test_a_given_teacher_probed_on_test_images(planes_tool, distil_run, tmp_path):
    """The config's own selector, snapshots that exist, and, as no image is held out, whole training sets."""
    made, work_dir = tmp_path / 'made', tmp_path / 'planes'
    RUNNERS.build(distil_run(work_dir=str(made))).train(until='teacher')
    config = distil_run(probe=dict(probe_split='test', num_images=20, decoder_epochs=1))
    config.teacher = dict(trajectory=str(made))
    status, out, _ = planes_tool(config, '--arms', 'inter', '--inter-selector', 'config')
    assert status == 0
    best = read(work_dir, 'teacher', 'information_plane.json')['best_epoch']
    assert read(work_dir, 'planes.json')['teaches'] == dict(inter=[best]) and f'{best}' in out
    student = Trajectory.open(work_dir / 'inter' / 'student')
    assert student.times == [1, 2] and student.last.iteration == 2 * 4 and 'held_out' not in student.info
    assert not (made / 'information_plane.json').exists(), 'the given folder should be left as it was'


def test_a_comparison_on_other_images_is_refused(planes_tool, distil_run, tmp_path):
    """The probe's are held out already: of the rest, which the teacher learns from, a tenth would be held out
    again."""
    config = distil_run()
    config.probe.held_out, config.distill.schedule = 0.1, dict(type='ckd_mm.StopWhenOvertakenHook')
    status, _, error = planes_tool(config)
    assert status == 1
    assert 'distill.schedule: StopWhenOvertakenHook compares on images that neither learns from' in error
    assert not (tmp_path / 'planes').exists()


def test_all_students_see_the_same_views(distil_run, tmp_path):
    """With ``distill.cache`` those of the taught are few, and in the order of another sampler."""
    arm_config = runpy.run_path(str(ROOT / 'tools' / 'student_planes.py'))['arm_config']
    config = distil_run()
    config.distill.cache = dict(views=2)
    probe = Probe(config, held_out=16)
    loaders = []
    for arm in ('full', 'alone', 'smooth'):
        run, stages = open_run(arm_config(config, tmp_path, arm, dict(trajectory=str(tmp_path)), [3], probe))
        stage_of(stages, 'select').chosen = lambda run: [dict(file='x.pth')]
        loaders.append(stage_of(stages, 'student').config(run).train_dataloader)
    assert loaders[0] == loaders[1] == loaders[2]
    assert loaders[0].sampler == dict(type='ckd_mm.ViewSampler', views=2, shuffle=True)
