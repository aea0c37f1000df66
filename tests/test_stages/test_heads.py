"""Heads of DIH in whole runs."""

import pytest
import torch
from mmengine.registry import RUNNERS

from ckd_mm.errors import SnapshotError
from ckd_mm.files import sha256_of_file
from ckd_mm.pipeline.preflight import Preflight
from ckd_mm.pipeline.runner import CheckpointDistillRunner
from ckd_mm.teachers import DIHTeacher, HeadTraining

from ..helpers import accuracy, digits, trajectory
from .conftest import settings_of


@pytest.fixture
def heads_run(shared_run):
    return shared_run('heads', heads=dict(out_indices=(0, 1), kind='flatten', train_cfg=dict(max_epochs=2)),
                      distill=dict(tau=5.0, aggregation='loss', ce_weight=0.9, kd_weight=0.1))


def test_heads_are_trained_evaluated_and_teach(heads_run):
    work_dir, summary = heads_run
    assert list(summary['seconds']) == ['teacher', 'select', 'heads', 'student']
    cohort = DIHTeacher(dict(trajectory=str(work_dir), epoch=3), work_dir / 'heads.pth')
    with torch.no_grad():
        logits = cohort(digits()[0])
    members = summary['heads']['members']
    assert [member['name'] for member in members] == ['head 0', 'head 1', 'teacher']
    assert [member['accuracy_top1'] for member in members] == [accuracy(found) for found in logits]
    assert members[2]['accuracy_top1'] == summary['teacher']['accuracy_top1']
    assert summary['cohort']['accuracy_top1'] == accuracy(logits.softmax(2).mean(0))
    assert summary['cost']['head_epochs'] == 2 and summary['cost']['total_epochs'] == 3 + 2 + 2
    settings = settings_of(work_dir, 'student')
    assert settings['teachers.1.heads'] == sha256_of_file(work_dir / 'heads.pth')
    assert settings['model.kd_loss.aggregation'] == 'loss'
    page = (work_dir / 'report.html').read_text()
    assert 'head 0' in page and 'epoch 3: head 0, head 1, teacher' in page


def test_heads_that_exist_teach_again(heads_run, run, tmp_path):
    first = heads_run[0]
    heads = dict(out_indices=None, kind='flatten', file=str(first / 'heads.pth'), use=[0])
    work_dir, summary = run(work_dir=str(tmp_path / 'second'), heads=heads,
                            teacher=dict(model=None, snapshots=None, trajectory=str(first)))
    assert [member['name'] for member in summary['heads']['members']] == ['head 0']
    assert not list(work_dir.rglob('heads.pth')) and 'head_epochs' not in summary['cost']


def test_a_selector_may_choose_another_snapshot_than_the_last(distil_run, tmp_path):
    """Which it will be nobody knows before; heads that exist know theirs."""
    given = trajectory(tmp_path / 'given')
    heads = HeadTraining(given.at(2), (0, ), (3, 8, 8))
    heads.write(tmp_path / 'heads.pth')
    config, lines = distil_run(selector='calibration', heads=dict(file=str(tmp_path / 'heads.pth'))), []
    config.teacher = dict(trajectory=str(given.folder))
    CheckpointDistillRunner(config).prepare(Preflight(lines.append))
    assert any(line.startswith('[ ok ] student: rehearsal') for line in lines)


def test_heads_of_another_teacher(heads_run, distil_run, tmp_path):
    trajectory(tmp_path / 'other')
    config = distil_run(selector='last', probe=None)
    config.teacher = dict(trajectory=str(tmp_path / 'other'))
    config.heads = dict(file=str(heads_run[0] / 'heads.pth'))
    with pytest.raises(SnapshotError, match=r'heads .*heads.pth were trained on the weights of .*epoch 3.*, '
                                            r'the teacher .*other'):
        RUNNERS.build(config).train()
    assert not list((tmp_path / 'run').rglob('*.pth')), 'nothing should be trained'
