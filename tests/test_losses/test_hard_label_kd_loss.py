"""Hard-label distillation against the paper's formula in plain numbers."""

import math

import pytest
import torch
from torch.testing import assert_close

from ckd_mm.errors import ConfigError
from ckd_mm.losses import HardLabelKDLoss, hard_label_kd_loss

from .test_decoupled_kd_loss import logits


@pytest.mark.parametrize('teachers, smoothing', [(1, 0.0), (3, 0.0), (2, 0.1)])
def test_it_is_the_papers_formula(teachers, smoothing):
    student, teacher = logits(5, 7), logits(teachers, 5, 7, seed=1)
    total = 0.0
    for image in range(5):
        mean = [sum(column) for column in zip(*teacher[:, image].softmax(1).tolist())]
        label = mean.index(max(mean))
        q = student[image].softmax(0).tolist()
        total -= sum(((1 - smoothing) * (c == label) + smoothing / 7) * math.log(q[c]) for c in range(7))
    expected = torch.tensor(total / 5, dtype=torch.float64)
    assert_close(hard_label_kd_loss(student, teacher, smoothing), expected)
    loss = HardLabelKDLoss(smoothing, loss_weight=0.5)
    assert_close(loss(student, teacher), expected / 2)
    assert_close(loss(student, loss.target(teacher)), expected / 2)


@pytest.mark.parametrize('settings, message', [
    (dict(label_smoothing=1.5), 'label_smoothing=1.5'), (dict(loss_weight=-1), 'loss_weight=-1')])
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        HardLabelKDLoss(**settings)
