"""DKD against the paper's formula, the classical loss that it takes apart, and mmrazor's version of it."""

import copy
import math

import pytest
import torch
from torch.testing import assert_close

from ckd_mm.compat import require_mmrazor
from ckd_mm.errors import ConfigError
from ckd_mm.losses import DecoupledKDLoss, cohort_kd_loss, decoupled_kd_loss
from ckd_mm.students import CheckpointDistill

from ..conftest import resnet
from ..helpers import batch, cohort_of, labels_of, network, with_statistics

STUDENT = with_statistics(resnet(1))


def logits(*shape, seed=0, scale=3.0):
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_the_paper(student, teacher, label, tau, alpha, beta):
    """Of one image, with plain numbers: Eq. 3 to 7."""
    p, q = (torch.softmax(each / tau, dim=0).tolist() for each in (teacher, student))
    pt, qt = p[label], q[label]
    target = pt * math.log(pt / qt) + (1 - pt) * math.log((1 - pt) / (1 - qt))
    others = [(p[i] / (1 - pt), q[i] / (1 - qt)) for i in range(len(p)) if i != label]
    return tau**2 * (alpha * target + beta * sum(a * math.log(a / b) for a, b in others))


@pytest.mark.parametrize('tau, alpha, beta', [(4, 1.0, 8.0), (1, 0.5, 2.0), (2, 0.0, 1.0), (2, 1.0, 0.0)])
def test_it_is_the_papers_formula(tau, alpha, beta):
    student, teacher, labels = logits(5, 7), logits(5, 7, seed=1), torch.tensor([0, 6, 3, 3, 1])
    expected = sum(by_the_paper(student[i], teacher[i], labels[i], tau, alpha, beta) for i in range(5)) / 5
    assert_close(decoupled_kd_loss(student, teacher, labels, tau, alpha, beta),
                 torch.tensor(expected, dtype=torch.float64))
    loss = DecoupledKDLoss(tau, alpha, beta, loss_weight=0.5)
    assert_close(loss(student, teacher[None], labels), torch.tensor(expected / 2, dtype=torch.float64))


@pytest.mark.parametrize('teachers', [1, 3])
def test_with_the_classical_weights_it_is_the_classical_loss(teachers):
    """Eq. 7: KD = TCKD + (1 - p_t) NCKD; of several teachers with their mean probability."""
    student, teacher = logits(6, 5).requires_grad_(), logits(teachers, 6, 5, seed=1)
    labels, tau = torch.tensor([0, 1, 2, 3, 4, 0]), 3.0
    p = (teacher / tau).softmax(dim=2).mean(dim=0)
    ours = decoupled_kd_loss(student, teacher, labels, tau, 1.0, 1 - p[torch.arange(6), labels])
    classical = cohort_kd_loss(student, teacher, tau)
    assert_close(ours, classical)
    assert_close(*(torch.autograd.grad(loss, student)[0] for loss in (ours, classical)))


@pytest.mark.parametrize('sure', [30.0, 500.0])
def test_a_sure_teacher_still_orders_the_other_classes(sure):
    """In float32 1 - p_t is 0 from 17 nats on, and the log of it would be minus infinity."""
    teacher = torch.tensor([[sure, 1.0, 0.0, -1.0]])
    student = torch.tensor([[sure, 0.0, 0.0, 0.0]], requires_grad=True)
    loss = decoupled_kd_loss(student, teacher, torch.tensor([0]), 1.0, 0.0, 1.0)
    p = torch.tensor([1.0, 0.0, -1.0]).softmax(dim=0)
    assert_close(loss, (p * (p * 3).log()).sum())
    gradient = torch.autograd.grad(loss, student)[0][0]  # float32 holds 500 to 3e-5
    assert_close(gradient, torch.cat([torch.zeros(1), 1 / 3 - p]), rtol=1e-4, atol=1e-4)


def test_autocast_does_not_make_it_rough():
    student, teacher = logits(4, 10).bfloat16(), logits(2, 4, 10, seed=1).bfloat16()
    labels = torch.arange(4)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = decoupled_kd_loss(student, teacher, labels, 4.0)
    assert loss.dtype == torch.float32
    assert_close(loss, decoupled_kd_loss(student.float(), teacher.float(), labels, 4.0))


def test_mmrazors_mean_is_the_sum():
    """mmrazor's DKDLoss(reduction='mean') passes size_average=False along, which wins: 16 images give 16
    times the mean."""
    require_mmrazor('the test')
    from mmrazor.models.losses import DKDLoss
    student, teacher, labels = logits(16, 10), logits(16, 10, seed=1), torch.arange(16) % 10
    ours = decoupled_kd_loss(student, teacher, labels, 4.0, 1.0, 8.0)
    assert_close(DKDLoss(tau=4.0, alpha=1.0, beta=8.0, reduction='mean')(student, teacher, labels), 16 * ours)


@pytest.mark.parametrize('settings, message', [
    (dict(tau=0), 'tau=0 should be a finite number, at least 0.01'),
    (dict(target_weight=-1), 'target_weight=-1 should be a finite number, at least 0'),
    (dict(non_target_weight='8'), "non_target_weight='8'"),
    (dict(loss_weight=-1), 'loss_weight=-1')])
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        DecoupledKDLoss(**settings)


def test_tensors_that_do_not_fit():
    with pytest.raises(ValueError, match=r'teacher logits \(4, 5\) should have the \(N, C\) of the student'):
        decoupled_kd_loss(logits(4, 6), logits(4, 5), torch.zeros(4, dtype=torch.long), 4.0)
    with pytest.raises(ValueError, match=r'labels \(3,\) should be one class'):
        decoupled_kd_loss(logits(4, 6), logits(4, 6), torch.zeros(3, dtype=torch.long), 4.0)


# ---------------------------------------------------------------- as the loss of a CheckpointDistill
def distilled(tmp_path, student=STUDENT) -> CheckpointDistill:
    loss = dict(type='ckd_mm.DecoupledKDLoss', tau=4.0, target_weight=1.0, non_target_weight=8.0)
    return CheckpointDistill(student, cohort_of(tmp_path, 3), loss, kd_weight=0.5)


def test_the_student_gets_its_labels_into_the_loss(tmp_path):
    model = distilled(tmp_path).eval()
    data = model.data_preprocessor(batch(), training=True)
    losses = model.loss(**data)
    teacher = network(with_statistics(resnet(2)), 3)
    expected = 0.5 * decoupled_kd_loss(model.student(data['inputs']), teacher(data['inputs']),
                                       labels_of(batch()), 4.0, 1.0, 8.0)
    assert_close(losses['loss_kd'], expected)


def test_mixed_images_have_no_label(tmp_path):
    student = copy.deepcopy(STUDENT)
    student['data_preprocessor']['batch_augments'] = dict(augments=dict(type='Mixup', alpha=0.8))
    model = distilled(tmp_path, student)
    data = model.data_preprocessor(batch(), training=True)
    with pytest.raises(ConfigError, match='the loss needs one label an image, and the batch has shares of '
                                          'classes'):
        model.loss(**data)
