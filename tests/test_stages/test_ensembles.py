"""Generations, students without a teacher, and all of each together, in a whole run."""

import pytest
import torch.nn.functional as F

from ckd_mm.files import sha256_of_file
from ckd_mm.trajectory import Trajectory

from ..conftest import resnet
from ..helpers import accuracy, logged, logits_of
from .conftest import settings_of

GENERATIONS = ('generation_1', 'generation_2', 'student')


@pytest.fixture
def generations(shared_run):
    """Cross-entropy weighs nothing: all that they learn is their teacher's."""
    metrics = [dict(type='Accuracy', topk=(1, )), dict(type='ckd_mm.KDMetric', tau=4.0)]
    return shared_run('generations', generations=3, student_alone=2, val_evaluator=metrics,
                      test_evaluator=metrics, distill=dict(tau=1.0, ce_weight=0.0, kd_weight=1.0),
                      **{'train_cfg.max_epochs': 8})


@pytest.fixture
def logits(generations):
    """By stage, of teacher and generations."""
    found = {name: logits_of(generations[0] / f'{name}.pth') for name in GENERATIONS}
    return dict(teacher=logits_of(generations[0] / 'snapshots' / 'epoch_3.pth', resnet(2)), **found)


def test_generations_and_their_ensemble(generations, logits):
    work_dir, summary = generations
    assert list(summary['seconds']) == ['teacher', 'select', *GENERATIONS, 'student_alone', 'student_alone_2',
                                        'ensembles']
    assert [link['name'] for link in summary['links']] == ['generation 1', 'generation 2']
    measured = [*summary['links'], summary['student']]
    assert [found['accuracy_top1'] for found in measured] == [accuracy(logits[name]) for name in GENERATIONS]
    probabilities = {name: found.softmax(1) for name, found in logits.items()}
    ensembles, together = summary['ensembles'], sum(probabilities[name] for name in GENERATIONS)
    assert ensembles['generations']['accuracy_top1'] == accuracy(together)
    assert ensembles['generations and teacher']['accuracy_top1'] == accuracy(
        together + probabilities['teacher'])
    alone = [logits_of(work_dir / f'{name}.pth').softmax(1) for name in ('student_alone', 'student_alone_2')]
    assert ensembles['students alone'] == dict(size=2, accuracy_top1=accuracy(sum(alone)),
                                               metrics=ensembles['students alone']['metrics'])
    assert [student['accuracy_top1'] for student in summary['students_alone']] == list(map(accuracy, alone))
    seeds = [settings_of(work_dir, stage)['randomness.seed'] for stage in summary['seconds']
             if stage not in ('select', 'ensembles')]
    assert seeds == [3, 4, 5, 6, 3, 4]
    assert [settings_of(work_dir, name)['teachers.0.sha256'] for name in GENERATIONS[1:]] == [
        sha256_of_file(work_dir / f'{name}.pth') for name in GENERATIONS[:2]]
    assert summary['cost']['student_epochs'] == 3 * 8 and summary['cost']['students'] == 3


def test_a_generation_learns_from_the_one_before(logits):
    """It ends nearer to it than to the first teacher."""
    log_probabilities = {name: F.log_softmax(found, 1) for name, found in logits.items()}
    distance = {name: F.kl_div(log_probabilities['generation_2'], log_probabilities[name], log_target=True,
                               reduction='batchmean') for name in ('generation_1', 'teacher')}
    assert distance['generation_1'] < distance['teacher']


def test_kd_error_of_every_student_that_is_taught(generations, logits):
    """The images on which student and teacher differ, percent."""
    work_dir, summary = generations
    measured = dict(zip(GENERATIONS, [*summary['links'], summary['student']]))
    for teacher, name in zip(('teacher', *GENERATIONS), GENERATIONS):
        differ = logits[name].argmax(1) != logits[teacher].argmax(1)
        error = measured[name]['metrics']['kd/error']
        assert error == pytest.approx(100 * differ.float().mean().item(), abs=1e-3)
        assert logged(work_dir / name, 'kd/error')[-1]['kd/error'] == pytest.approx(error, abs=1e-3)
    shown = ', '.join(f'{name.replace("_", " ")} {found["metrics"]["kd/error"]:.2f} %'
                      for name, found in measured.items())
    assert shown in (work_dir / 'report.html').read_text()
    assert 'kd/error' not in summary['student_alone']['metrics']
    assert 'kd/error' not in summary['teacher']['metrics']
    assert Trajectory.open(work_dir).last.metrics.keys() == {'accuracy/top1'}
