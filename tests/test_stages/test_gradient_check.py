"""Teachers that cannot move a student, known before it is trained; whole runs: tests/faults/teachers.py."""

import pytest
import torch

from ckd_mm.errors import ConfigError
from ckd_mm.losses import CohortKDLoss
from ckd_mm.stages.gradient_check import check_ratio, gradient

LOGITS = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
TEACHERS = 3 * torch.randn(1, 4, 10, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('tau', [1.0, 4.0, 20.0])
def test_gradient_is_the_formula(tau):
    """Of tau^2 KL(p | q), mean over N images: tau (q - p) / N (Hinton et al., Sec. 2.1)."""
    expected = tau * ((LOGITS / tau).softmax(1) - (TEACHERS[0] / tau).softmax(1)) / 4
    torch.testing.assert_close(gradient(CohortKDLoss(tau), LOGITS, TEACHERS), expected)


def test_of_a_loss_that_does_not_depend_on_the_student():
    assert gradient(lambda student, teachers: teachers.mean(), LOGITS, TEACHERS).eq(0).all()


@pytest.mark.parametrize('ratio', [0.0, 9e-7, 1.1e6, float('inf'), float('nan')])
def test_ratios(ratio):
    with pytest.raises(ConfigError, match="^what: the gradient of the distillation loss on the student's"):
        check_ratio(ratio, 'what')
    for usual in (1e-6, 1.0, 1e6):
        check_ratio(usual, 'what')
