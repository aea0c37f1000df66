"""DIST against numpy's correlations and mmrazor's version."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ckd_mm.compat import require_mmrazor
from ckd_mm.errors import ConfigError
from ckd_mm.losses import DISTLoss, dist_loss

from .test_decoupled_kd_loss import logits


def by_numpy(student, teachers, tau, inter, intra):
    y_s, y_t = (student / tau).softmax(1).numpy(), (teachers / tau).softmax(2).mean(0).numpy()
    images = [1 - np.corrcoef(y_s[i], y_t[i])[0, 1] for i in range(len(y_s))]
    classes = [1 - np.corrcoef(y_s[:, j], y_t[:, j])[0, 1] for j in range(y_s.shape[1])]
    return tau**2 * (inter * np.mean(images) + intra * np.mean(classes))


@pytest.mark.parametrize('tau, inter, intra, teachers', [(1.0, 2.0, 2.0, 1), (4.0, 1.0, 0.0, 3),
                                                         (2.0, 0.0, 1.0, 2)])
def test_it_is_the_papers_formula(tau, inter, intra, teachers):
    student, teacher = logits(6, 5), logits(teachers, 6, 5, seed=1)
    expected = torch.tensor(by_numpy(student, teacher, tau, inter, intra))
    assert_close(dist_loss(student, teacher, tau, inter, intra), expected, rtol=1e-5, atol=1e-6)
    loss = DISTLoss(tau, inter, intra, loss_weight=0.5)
    assert_close(loss(student, teacher), expected / 2, rtol=1e-5, atol=1e-6)
    assert_close(loss(student, loss.target(teacher)), loss(student, teacher))


def test_it_is_mmrazors():
    require_mmrazor('the test')
    from mmrazor.models.losses.dist_loss import DISTLoss as theirs
    student, teacher = logits(6, 5).requires_grad_(), logits(6, 5, seed=1)
    losses = [theirs(2.0, 3.0, 4.0)(student, teacher), dist_loss(student, teacher, 4.0, 2.0, 3.0)]
    assert_close(*losses)
    assert_close(*(torch.autograd.grad(loss, student)[0] for loss in losses))


def test_what_the_teacher_says_costs_nothing_nor_does_another_scale():
    """Pearson's correlation does not change with scale and shift of the probabilities."""
    teacher = logits(6, 5, scale=1.0)
    assert_close(dist_loss(teacher + 7, teacher), torch.tensor(0.0, dtype=torch.float64), rtol=0, atol=1e-6)
    p = teacher.softmax(1)
    nearer = (0.5 * p + 0.1).log()  # the same ranking, half as sure
    assert_close(dist_loss(nearer, teacher), torch.tensor(0.0, dtype=torch.float64), rtol=0, atol=1e-5)


def test_constant_outputs_have_finite_gradients():
    student = torch.zeros(4, 5, requires_grad=True)
    dist_loss(student, logits(4, 5).float()).backward()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('settings, message', [
    (dict(tau=0), 'tau=0'), (dict(inter_weight=-1), 'inter_weight=-1'),
    (dict(intra_weight='2'), "intra_weight='2'"), (dict(loss_weight=-1), 'loss_weight=-1')])
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        DISTLoss(**settings)
