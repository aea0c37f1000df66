"""The target that teachers make of an image."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from ckd_mm.errors import ConfigError
from ckd_mm.losses import CohortKDLoss, DecoupledKDLoss, soft_target
from ckd_mm.students import CheckpointDistill

from ..conftest import resnet
from ..helpers import cohort_of, with_statistics

AGGREGATIONS = ('prob', 'logit', 'loss')


def logits(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_spread_of_each_image_is_its_jensen_shannon_divergence():
    """Of 0.9, 0.1 and 0.5, 0.5 with equal weights the mean is 0.7, 0.3."""
    first = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log()
    second = torch.tensor([[0.5, 0.5], [0.2, 0.8]]).log()
    target = soft_target(torch.stack([first, second]), 1.0, 'loss')
    assert_close(target.log_p.exp(), torch.tensor([[0.7, 0.3], [0.2, 0.8]]))
    by_hand = [0.5 * sum(p * torch.tensor(p / m).log().item() for p, m in zip(row, (0.7, 0.3)))
               for row in ((0.9, 0.1), (0.5, 0.5))]
    assert_close(target.spread, torch.tensor([sum(by_hand), 0.0]), rtol=1e-5, atol=1e-7)
    assert soft_target(torch.stack([first, second]), 1.0, 'prob').spread is None


@pytest.mark.parametrize('loss', [
    *(CohortKDLoss(2.0, aggregation, 0.7, [1, 2, 1], standardize) for aggregation in AGGREGATIONS
      for standardize in (False, True)), DecoupledKDLoss(2.0)])
def test_a_loss_of_the_target_is_the_loss_of_the_logits(loss):
    """Also its gradient, bit for bit."""
    labels = (torch.arange(6) % 5, ) if getattr(loss, 'needs_labels', False) else ()
    gradients, values = [], []
    for teachers in (logits(3, 6, 5), loss.target(logits(3, 6, 5))):
        student = logits(6, 5, seed=1).requires_grad_()
        value = loss(student, teachers, *labels)
        value.backward()
        values.append(value.detach())
        gradients.append(student.grad)
    assert torch.equal(*values) and torch.equal(*gradients)


@pytest.mark.parametrize('aggregation', AGGREGATIONS)
@pytest.mark.parametrize('classes', [7, 100, 1000])
def test_an_images_target_does_not_depend_on_its_place_and_company(aggregation, classes):
    """So it can be cached, as long as the batch has the same size."""
    given, order = logits(3, 16, classes), torch.randperm(16, generator=torch.Generator().manual_seed(2))
    whole = soft_target(given, 4.0, aggregation)
    for part, expected in zip(soft_target(given[:, order], 4.0, aggregation), whole):
        assert part is expected is None or torch.equal(part, expected[order])
    other = torch.cat([given[:, :5], logits(3, 11, classes, seed=3)], dim=1)
    assert torch.equal(soft_target(other, 4.0, aggregation).log_p[:5], whole.log_p[:5])


@pytest.mark.parametrize('loss,labels', [(CohortKDLoss(), ()),
                                         (DecoupledKDLoss(), (torch.zeros(4, dtype=torch.long), ))])
def test_a_target_of_other_classes_is_refused(loss, labels):
    with pytest.raises(ValueError, match='do teacher and student have the same classes'):
        loss(logits(4, 6), loss.target(logits(2, 4, 5)), *labels)


# ---------------------------------------------------------------- of a CheckpointDistill
def distilling(folder, **settings) -> CheckpointDistill:
    return CheckpointDistill(with_statistics(resnet()), cohort_of(folder, 1, 2), **settings)


def test_teacher_batches_of_one_size(tmp_path):
    """One image alone gets the target that it has among sixteen; without ``teacher_batch`` other kernels
    compute it."""
    model = distilling(tmp_path, teacher_batch=16)
    images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    whole, teachers = model.soft_target(images)
    assert teachers == 2 and whole.log_p.shape == (16, 10)
    for count in (1, 3, 16):
        part, _ = model.soft_target(images[:count])
        assert torch.equal(part.log_p, whole.log_p[:count]) and len(part.predicted) == count
    by_hand = F.softmax(model.teacher_logits(images) / 4.0, dim=2).mean(dim=0)
    assert_close(whole.log_p.exp(), by_hand)


def test_targets_need_a_loss_that_has_them(tmp_path):
    with pytest.raises(ConfigError, match='L1Loss has no method `target`'):
        distilling(tmp_path, targets=str(tmp_path), kd_loss=torch.nn.L1Loss())


def test_targets_and_a_distiller_are_refused(tmp_path):
    with pytest.raises(ConfigError, match='and a distiller: it sees nothing'):
        distilling(tmp_path, targets=str(tmp_path), distiller=dict(type='mmrazor.ConfigurableDistiller'))
