"""KD error and KD loss: values by hand, each image passes the teacher once, in ordinary runs of mmpretrain.

See test_agreement_distributed.py for several processes.
"""

import math
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from mmpretrain.structures import DataSample

from ckd_mm.errors import ConfigError
from ckd_mm.losses.cohort_kd_loss import cohort_kd_loss
from ckd_mm.losses.soft_target import ensemble_prediction, soft_target
from ckd_mm.teachers import BaseCohort, SnapshotEnsemble

from ..conftest import resnet
from ..helpers import assert_same_weights, batch, logged, train, trajectory, weights_of, with_statistics


# ---------------------------------------------------------------- the formulas
def test_ensemble_predicts_by_its_mean_probability():
    """One teacher is sure of class 0; two lean to class 1, but less: (0.9 + 0.4 + 0.4) / 3 against (0.1 + 0.6
    + 0.6) / 3."""
    probabilities = torch.tensor([[[.9, .1]], [[.4, .6]], [[.4, .6]]])
    assert ensemble_prediction(probabilities.log()).tolist() == [0]


# ---------------------------------------------------------------- the metric
class Counting(BaseCohort):
    """A real cohort that counts the images of its forward passes."""

    def __init__(self, cohort: BaseCohort) -> None:
        super().__init__()
        self.inner, self.count = cohort, 0
        self.data_preprocessor, self.classes = cohort.data_preprocessor, cohort.classes

    def member_logits(self, inputs):
        self.count += len(inputs)
        return self.inner.member_logits(inputs)


@pytest.fixture
def cohort(tmp_path):
    run = trajectory(tmp_path / 'teacher', epochs=(1, 2), model=with_statistics(resnet(2)))
    return SnapshotEnsemble(list(run))


def metric(**settings) -> Evaluator:
    return Evaluator(dict(type='ckd_mm.KDMetric', **settings))


def predictions(logits: torch.Tensor) -> list:
    return [DataSample().set_pred_score(row.softmax(0)).set_pred_label(row.argmax()) for row in logits]


def evaluate(evaluator: Evaluator, logits: torch.Tensor, images: list, batch_size: int = 16) -> dict:
    """In batches of which the last may be smaller."""
    for start in range(0, len(logits), batch_size):
        part = slice(start, start + batch_size)
        evaluator.process(predictions(logits[part]), dict(inputs=images[part]))
    return evaluator.evaluate(len(logits))


def teacher_logits(cohort: BaseCohort, images: list) -> torch.Tensor:
    statistics = cohort.data_preprocessor
    inputs = (torch.stack(images).float() - statistics.mean) / statistics.std
    return torch.stack([network(inputs, mode='tensor') for network in cohort.networks])


def test_error_and_loss_are_those_of_the_definition(cohort):
    images = batch(40, seed=3)['inputs']
    student = 2 * torch.randn(40, 10, generator=torch.Generator().manual_seed(1))
    logits = teacher_logits(cohort, images)
    teacher = logits.softmax(2).mean(0).argmax(1)
    student[:25] += 9 * torch.nn.functional.one_hot(teacher[:25], 10)  # agrees on most of these
    error = 100 * (student.argmax(1) != teacher).float().mean().item()
    soft = (logits / 3).softmax(2).mean(0)
    divergence = 9 * (soft * (soft.log() - (student / 3).log_softmax(1))).sum(1).mean()
    cross_entropy = divergence - 9 * (soft * soft.log()).sum(1).mean()
    assert 20 < error < 60
    assert evaluate(metric(teacher=cohort, tau=3), student, images) == {
        'kd/error': pytest.approx(error), 'kd/divergence': pytest.approx(divergence.item(), rel=1e-5)}
    assert evaluate(metric(teacher=cohort, tau=3, loss='cross_entropy'), student, images) == {
        'kd/error': pytest.approx(error), 'kd/cross_entropy': pytest.approx(cross_entropy.item(), rel=1e-5)}


def test_a_student_that_is_the_teacher_disagrees_nowhere(cohort):
    images, one = batch(8)['inputs'], SnapshotEnsemble(cohort.snapshots[:1])
    result = evaluate(metric(teacher=one), teacher_logits(one, images)[0], images)
    assert result['kd/error'] == 0 and abs(result['kd/divergence']) < 1e-4


def test_probabilities_that_underflow_stay_finite(cohort):
    images = batch(2)['inputs']
    result = evaluate(metric(teacher=cohort), torch.tensor([[500.] + [0.] * 9] * 2), images)
    # classes 1 to 9 count as the smallest float, log 1.2e-38 = -87.3; at tau 4 -21.8
    soft = soft_target(teacher_logits(cohort, images), 4.0).log_p
    log_q = (torch.tensor([0.] + [math.log(torch.finfo(torch.float32).tiny)] * 9) / 4).log_softmax(0)
    expected = (16 * (soft.exp() * (soft - log_q)).sum(1)).mean().item()
    assert result['kd/divergence'] == pytest.approx(expected, rel=1e-4)


def test_an_image_passes_the_teacher_once(cohort):
    teacher, images = Counting(cohort), batch(12)['inputs']
    evaluator, logits = metric(teacher=teacher), torch.randn(12, 10)
    first = evaluate(evaluator, logits, images, 5)
    order = [7, 0, 11, 3, 5, 1, 2, 4, 6, 8, 9, 10]
    again = evaluate(evaluator, logits[order], [images[row] for row in order], 5)
    assert again == pytest.approx(first, rel=1e-5) and teacher.count == 12
    # also where the dataloader stacks them
    assert evaluate(evaluator, logits, torch.stack(images), 5) == first and teacher.count == 12
    # one changed pixel is another image
    changed = [image.clone() for image in images]
    changed[7][0, 0, 0] ^= 255
    evaluated = evaluate(evaluator, logits, changed, 5)
    assert teacher.count == 17  # the batch of five with the changed image
    assert evaluated == pytest.approx(evaluate(metric(teacher=cohort), logits, changed), rel=1e-5)
    # images that have not come again are forgotten: memory does not grow where they are augmented at random
    assert len(evaluator.metrics[0]._known) == 12


def test_a_teacher_from_a_config_is_released_between_evaluations(cohort):
    config = dict(type='ckd_mm.SnapshotEnsemble',
                  snapshots=[str(snapshot.file) for snapshot in cohort.snapshots])
    evaluator, data, state = metric(teacher=config), batch(4), torch.get_rng_state()
    evaluator.process(predictions(torch.zeros(4, 10)), data)
    assert isinstance(evaluator.metrics[0]._cohort, SnapshotEnsemble)
    assert torch.equal(torch.get_rng_state(), state)
    evaluator.evaluate(4)
    assert evaluator.metrics[0]._cohort is None


# ---------------------------------------------------------------- in ordinary runs of mmpretrain
def run_with_metric(digits_run, cohort, **settings):
    config = digits_run(epochs=3)
    teacher = dict(type='ckd_mm.SnapshotEnsemble',
                   snapshots=[str(snapshot.file) for snapshot in cohort.snapshots])
    config.val_evaluator = [dict(type='Accuracy'), dict(type='ckd_mm.KDMetric', tau=2.0, teacher=teacher)]
    config.merge_from_dict(settings)
    return config


def test_in_an_ordinary_run(digits_run, cohort, monkeypatch):
    """Logged at each validation, with a teacher forward in the first alone; training and checkpoints are the
    same bit for bit."""
    images, forward = [], SnapshotEnsemble.member_logits
    monkeypatch.setattr(SnapshotEnsemble, 'member_logits',
                        lambda self, inputs: images.append(len(inputs)) or forward(self, inputs))
    config = run_with_metric(digits_run, cohort, **{'default_hooks.checkpoint.max_keep_ckpts': 3})
    runner, folder = train(config), Path(config.work_dir)
    assert images == [100]  # one batch of 100 test images
    found = [(row['kd/error'], row['kd/divergence']) for row in logged(folder, 'kd/error')]
    assert len(set(found)) == 3
    # each against a second evaluation by hand, of the checkpoint of that epoch
    (data, ) = runner.val_dataloader
    for epoch, (error, divergence) in enumerate(found, 1):
        runner.model.load_state_dict(weights_of(folder / f'epoch_{epoch}.pth'))
        with torch.no_grad():
            student = runner.model.eval()(runner.model.data_preprocessor(data)['inputs'], mode='tensor')
            teachers = teacher_logits(cohort, data['inputs'])
            differ = student.argmax(1) != teachers.softmax(2).mean(0).argmax(1)
        assert error == pytest.approx(100 * differ.float().mean().item())
        assert divergence == pytest.approx(cohort_kd_loss(student, teachers, 2.0).item(), rel=1e-4)
    without = train(digits_run(epochs=3, work_dir=folder.parent / 'without'))
    assert_same_weights(weights_of(folder / 'epoch_3.pth'), without.model.state_dict())


def test_as_test_evaluator(digits_run, cohort):
    config = run_with_metric(digits_run, cohort)
    config.test_evaluator = config.val_evaluator
    config.experiment_name = 'kd_metric_as_test_evaluator'
    found = Runner.from_cfg(config).test()
    assert set(found) == {'accuracy/top1', 'kd/error', 'kd/divergence'} and found['kd/divergence'] > 0


# ---------------------------------------------------------------- bad settings
@pytest.mark.parametrize(('settings', 'message'), [
    (dict(), r'KDMetric: teacher=None should be a cohort'),
    (dict(teacher='teacher.pth'), r"KDMetric: teacher='teacher.pth' should be a cohort .* "
                                  r"dict\(type='ckd_mm.SnapshotEnsemble'"),
    (dict(teacher=dict(), tau=0), r'KDMetric: tau=0 should be a finite number, at least 0.01'),
    (dict(teacher=dict(), tau='4'), r"KDMetric: tau='4'"),
    (dict(teacher=dict(), loss='mse'), r"KDMetric: loss='mse' should be one of \('kl', 'cross_entropy'\)"),
])
def test_bad_settings_are_one_sentence(settings, message):
    with pytest.raises(ConfigError, match=f'^{message}'):
        metric(**settings)


def test_what_cannot_be_compared_is_said(cohort):
    data, scores = batch(4), predictions(torch.zeros(4, 10))
    with pytest.raises(ConfigError, match='needs the images that were predicted'):
        metric(teacher=cohort).process(scores)
    with pytest.raises(ConfigError, match='the teacher has 10 classes, the student 7'):
        metric(teacher=cohort).process(predictions(torch.zeros(4, 7)), data)
    with pytest.raises(ConfigError, match='needs the scores of all classes, `pred_score`'):
        metric(teacher=cohort).process([DataSample().set_pred_label(1) for _ in range(4)], data)
    with pytest.raises(ConfigError, match='a ImageClassifier is no cohort of teachers'):
        single = dict(with_statistics(resnet()), type='mmpretrain.ImageClassifier', _scope_='mmpretrain')
        metric(teacher=single).process(scores, data)
    other = metric(teacher=cohort)
    other.dataset_meta = dict(classes=[str(9 - digit) for digit in range(10)])
    with pytest.raises(ConfigError, match="class 0 is '0' in the teacher of KDMetric and '9' in the images"):
        other.process(scores, data)
    sigmoids = [DataSample().set_pred_score(torch.full((10, ), .5)) for _ in range(4)]
    with pytest.raises(ConfigError, match='KDMetric: the scores of an image sum to 5, not to 1: networks'):
        metric(teacher=cohort).process(sigmoids, data)
