"""Losses for teachers that are wrong, against their formulas in numpy."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ckd_mm.errors import ConfigError
from ckd_mm.losses import RefinedKDLoss, SwappedKDLoss, cohort_kd_loss, refined_kd_loss, soft_target

from .test_decoupled_kd_loss import logits

LABELS = torch.tensor([0, 3, 2, 4, 1, 1])


def kl(p, q):
    return sum(a * np.log(a / b) for a, b in zip(p, q) if a > 0)


def refined_by_numpy(student, teachers, labels, tau, alpha, beta):
    q, p = (student / tau).softmax(1).numpy(), (teachers / tau).softmax(2).mean(0).numpy()
    total = 0.0
    for own, taught, label in zip(q, p, labels.tolist()):
        total += alpha * kl((taught.max(), 1 - taught.max()), (own[label], 1 - own[label]))
        below = [i for i in range(len(own)) if taught[i] < taught[label]]
        total += beta * kl(taught[below] / taught[below].sum(), own[below] / own[below].sum())
    return tau**2 * total / len(labels)


@pytest.mark.parametrize('tau, alpha, beta, teachers', [(1.0, 1.0, 4.0, 1), (4.0, 1.0, 0.0, 3),
                                                        (2.0, 0.0, 8.0, 2)])
def test_refined_logits_are_the_papers_formula(tau, alpha, beta, teachers):
    student, teacher = logits(6, 5), logits(teachers, 6, 5, seed=1)
    expected = torch.tensor(refined_by_numpy(student, teacher, LABELS, tau, alpha, beta))
    assert_close(refined_kd_loss(student, teacher, LABELS, tau, alpha, beta), expected)
    loss = RefinedKDLoss(tau, alpha, beta, loss_weight=0.5)
    assert_close(loss(student, teacher, LABELS), expected / 2)
    assert_close(loss(student, loss.target(teacher), LABELS), expected / 2)


def test_a_label_that_is_ranked_last_leaves_the_confidence_alone():
    teacher = torch.tensor([[5.0, 1.0, -3.0]])
    student = torch.tensor([[0.3, -0.2, 0.1]], requires_grad=True)
    assert refined_kd_loss(student, teacher, torch.tensor([2]), 1.0, 0.0, 1.0) == 0
    refined_kd_loss(student, teacher, torch.tensor([2]), 1.0).backward()
    assert student.grad.isfinite().all() and student.grad[0, 2] < 0  # towards the label


def test_where_the_teacher_is_right_the_swap_changes_nothing():
    student, teacher = logits(6, 5).float(), logits(2, 6, 5, seed=1).float()
    right = (teacher / 2).softmax(2).mean(0).argmax(1)
    for aggregation in ('prob', 'loss'):
        loss = SwappedKDLoss(2.0, aggregation)
        assert torch.equal(loss(student, teacher, right), cohort_kd_loss(student, teacher, 2.0, aggregation))


def test_where_it_is_wrong_two_classes_change_places():
    student, teacher = logits(6, 5), logits(6, 5, seed=1)
    by_hand = teacher.clone()
    for row, label in zip(by_hand, LABELS.tolist()):
        most = row.argmax().item()
        row[most], row[label] = row[label].item(), row[most].item()
    assert torch.equal(by_hand.argmax(1), LABELS) and not torch.equal(by_hand, teacher)
    for given in (teacher, soft_target(teacher, 4.0)):
        assert_close(SwappedKDLoss(4.0)(student, given, LABELS), cohort_kd_loss(student, by_hand, 4.0))


@pytest.mark.parametrize('build, settings, message', [
    (RefinedKDLoss, dict(tau=0), 'tau=0'),
    (RefinedKDLoss, dict(confidence_weight=-1), 'confidence_weight=-1'),
    (RefinedKDLoss, dict(correlation_weight='4'), "correlation_weight='4'"),
    (SwappedKDLoss, dict(aggregation='mean'), "aggregation='mean'")])
def test_bad_settings_are_named(build, settings, message):
    with pytest.raises(ConfigError, match=message):
        build(**settings)


@pytest.mark.parametrize('loss', [RefinedKDLoss(), SwappedKDLoss()])
def test_labels_have_to_fit(loss):
    with pytest.raises(ValueError, match=r'labels \(5,\) should be one class'):
        loss(logits(6, 5), logits(6, 5), LABELS[:5])
