"""Deep mutual learning, and training without any teacher, in whole runs."""

from pathlib import Path

import pytest
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..conftest import resnet
from ..helpers import accuracy, assert_same_weights, logged, logits_of, weights_of


@pytest.fixture
def without_teacher(distil_run):

    def make(**settings):
        config = distil_run()
        for key in ('probe', 'selector', 'distill'):
            config.pop(key)
        config.teacher = None
        config.merge_from_dict(settings)
        return config

    return make


def test_mutual_learning(without_teacher):
    metrics = [dict(type='Accuracy', topk=(1, )), dict(type='Accuracy', prefix='own', topk=(5, ))]
    config = without_teacher(distill=dict(tau=1.0), peer=dict(model=resnet(2)), student_alone=True,
                             val_evaluator=metrics)
    work_dir, summary = Path(config.work_dir), RUNNERS.build(config).train()
    assert list(summary['seconds']) == ['student', 'student_alone']
    assert summary['student']['accuracy_top1'] == accuracy(logits_of(work_dir / 'student.pth'))
    assert summary['peer']['accuracy_top1'] == accuracy(logits_of(work_dir / 'peer.pth', resnet(2)))
    rows = logged(work_dir / 'student')
    assert {key for row in rows for key in row if 'top' in key} == {
        'accuracy/top1', 'own/top5', 'peer/top1', 'peer_own/top5'}
    validated = [row for row in rows if 'peer/top1' in row]
    assert [row['step'] for row in validated] == [1, 2]
    assert validated[-1]['peer/top1'] == pytest.approx(summary['peer']['accuracy_top1'], abs=1e-3)
    assert validated[-1]['accuracy/top1'] == pytest.approx(summary['student']['accuracy_top1'], abs=1e-3)


def test_without_a_teacher_it_is_ordinary_mmpretrain_training(without_teacher, digits_run, tmp_path):
    config = without_teacher()
    work_dir, summary = Path(config.work_dir), RUNNERS.build(config).train()
    runner = Runner.from_cfg(digits_run(epochs=2, work_dir=tmp_path / 'ordinary'))
    runner.train()
    assert_same_weights(weights_of(work_dir / 'student.pth'), runner.model.state_dict())
    assert set(summary) >= {'student', 'seconds', 'config'} and 'teacher' not in summary
    page = (work_dir / 'report.html').read_text()
    assert 'no teacher, after epoch 2' in page and page.count('<svg') == 1
