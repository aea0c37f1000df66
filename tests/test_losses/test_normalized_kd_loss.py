"""NKD against the paper's formula in plain numbers."""

import math

import pytest
import torch
from torch.testing import assert_close

from ckd_mm.errors import ConfigError
from ckd_mm.losses import NormalizedKDLoss, normalized_kd_loss

from .test_decoupled_kd_loss import logits

LABELS = torch.tensor([0, 6, 3, 3, 1])


def by_the_paper(student, teachers, label, tau, gamma):
    """Of one image."""
    s = student.softmax(0).tolist()
    t = [sum(column) / len(teachers) for column in zip(*(each.softmax(0).tolist() for each in teachers))]
    others = [i for i in range(len(s)) if i != label]
    n_s, n_t = ({i: p[i]**(1 / tau) / sum(p[j]**(1 / tau) for j in others) for i in others} for p in (s, t))
    return -t[label] * math.log(s[label]) - gamma * tau**2 * sum(n_t[i] * math.log(n_s[i]) for i in others)


@pytest.mark.parametrize('tau, gamma, teachers', [(1.0, 1.5, 1), (2.0, 1.0, 1), (3.0, 0.5, 2), (1.0, 0.0, 3)])
def test_it_is_the_papers_formula(tau, gamma, teachers):
    student, teacher = logits(5, 7), logits(teachers, 5, 7, seed=1)
    expected = sum(by_the_paper(student[i], teacher[:, i], LABELS[i], tau, gamma) for i in range(5)) / 5
    expected = torch.tensor(expected, dtype=torch.float64)
    assert_close(normalized_kd_loss(student, teacher, LABELS, tau, gamma), expected)
    loss = NormalizedKDLoss(tau, gamma, loss_weight=0.5)
    assert_close(loss(student, teacher, LABELS), expected / 2)
    assert_close(loss(student, loss.target(teacher), LABELS), expected / 2)


def test_the_temperature_of_one_teacher_is_that_of_its_logits():
    """The authors' code divides the logits of the other classes by it."""
    student, teacher = logits(5, 7), logits(5, 7, seed=1)
    others = torch.ones(5, 7, dtype=torch.bool).scatter_(1, LABELS[:, None], False)
    n_s, n_t = ((each[others].reshape(5, 6) / 2.0).log_softmax(1) for each in (student, teacher))
    own = [each.log_softmax(1)[range(5), LABELS] for each in (student, teacher)]
    expected = -(own[1].exp() * own[0]).mean() - 1.5 * 4 * (n_t.exp() * n_s).sum(1).mean()
    assert_close(normalized_kd_loss(student, teacher, LABELS, 2.0), expected)


def test_a_sure_teacher_still_orders_the_other_classes():
    teacher = torch.tensor([[500.0, 1.0, 0.0, -1.0]])
    student = torch.zeros(1, 4, requires_grad=True)
    normalized_kd_loss(student, teacher, torch.tensor([0])).backward()
    gradient = student.grad[0]
    assert gradient.isfinite().all() and gradient[1] < gradient[2] < gradient[3]


@pytest.mark.parametrize('settings, message', [
    (dict(tau=0), 'tau=0'), (dict(non_target_weight=-1), 'non_target_weight=-1'),
    (dict(loss_weight=-1), 'loss_weight=-1')])
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        NormalizedKDLoss(**settings)
