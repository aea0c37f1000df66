"""Attention transfer and hints against their formulas and mmrazor's versions."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from ckd_mm.compat import require_mmrazor
from ckd_mm.errors import ConfigError
from ckd_mm.losses import AttentionTransferLoss, HintLoss, attention_transfer_loss, hint_loss


def maps(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_attention_is_that_of_the_authors_code_and_mmrazors():
    student, teacher = maps(3, 4, 5, 6).requires_grad_(), maps(3, 7, 5, 6, seed=1)
    attention = [each.pow(2).sum(1).flatten(1) for each in (student, teacher)]
    left, right = (each / each.square().sum(1, keepdim=True).sqrt() for each in attention)
    expected = (left - right).square().mean()
    assert_close(attention_transfer_loss(student, teacher), expected)
    require_mmrazor('the test')
    from mmrazor.models.losses import ATLoss
    losses = [AttentionTransferLoss(7.0)(student, teacher), ATLoss(7.0)(student, teacher)]
    assert_close(*losses)
    assert_close(*(torch.autograd.grad(loss, student)[0] for loss in losses))


def test_hints_are_equation_3_behind_a_convolution():
    student, hint = maps(3, 4, 7, 6).float(), maps(3, 5, 5, 4, seed=1).float()
    loss = HintLoss(4, 5, kernel_size=3)
    regressed = F.conv2d(student, loss.regressor.conv.weight, loss.regressor.conv.bias).relu()
    norms = torch.stack([(one - other).norm()**2 for one, other in zip(hint, regressed)])
    assert_close(loss(student, hint), norms.mean() / 2)
    mean = HintLoss(4, 5, kernel_size=3, reduction='mean', loss_weight=3.0)
    mean.load_state_dict(loss.state_dict())
    assert_close(mean(student, hint), 3 * F.mse_loss(regressed, hint))


def test_they_are_exact_in_float32_under_autocast():
    student, teacher = maps(3, 4, 5, 5).float(), maps(3, 4, 5, 5, seed=1).float()
    for loss in (attention_transfer_loss, hint_loss):
        with torch.autocast('cpu', torch.bfloat16):
            inside = loss(student.bfloat16(), teacher.bfloat16())
        assert inside.dtype == torch.float32
        assert_close(inside, loss(student.bfloat16().float(), teacher.bfloat16().float()), rtol=0, atol=0)


@pytest.mark.parametrize('student, teacher', [((2, 4, 5, 5), (2, 4, 5, 4)), ((2, 4), (2, 4)),
                                              ((2, 4, 5, 5), (3, 4, 5, 5))])
def test_attention_of_other_sizes_is_refused(student, teacher):
    with pytest.raises(ValueError, match='maps .* of one height and width'):
        attention_transfer_loss(maps(*student), maps(*teacher))


def test_hints_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r'one shape, not \(2, 4, 5, 5\) and \(2, 1, 5, 5\)'):
        hint_loss(maps(2, 4, 5, 5), maps(2, 1, 5, 5))
    with pytest.raises(ValueError, match="reduction='none' should be one of"):
        hint_loss(maps(2, 4, 5, 5), maps(2, 4, 5, 5), 'none')


@pytest.mark.parametrize('build, message', [
    (lambda: AttentionTransferLoss(-1.0), 'loss_weight=-1'), (lambda: HintLoss(0, 4), 'student_channels=0'),
    (lambda: HintLoss(4, '4'), "teacher_channels='4'"),
    (lambda: HintLoss(4, 4, kernel_size=1.5), 'kernel_size'),
    (lambda: HintLoss(4, 4, reduction='none'), "reduction='none'")])
def test_bad_settings_are_named(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
