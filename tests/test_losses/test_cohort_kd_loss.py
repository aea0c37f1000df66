"""The distillation loss against formulas written out here, and its laws."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from ckd_mm.errors import ConfigError
from ckd_mm.losses import CohortKDLoss, DecoupledKDLoss, cohort_kd_loss

AGGREGATIONS = ('prob', 'logit', 'loss')


def softmax(row):
    top = max(row)
    powers = [math.exp(value - top) for value in row]
    return [power / sum(powers) for power in powers]


def kl(p, q):
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q))


def by_hand(student, teachers, tau, aggregation, weights):
    """The three definitions with Python floats, one image at a time."""
    weights = [weight / sum(weights) for weight in weights]
    total = 0.0
    for image, row in enumerate(torch.as_tensor(student).tolist()):
        q = softmax([value / tau for value in row])
        logits = [teacher[image].tolist() for teacher in teachers]
        members = [softmax([value / tau for value in teacher]) for teacher in logits]
        if aggregation == 'prob':
            total += kl([sum(w * p[c] for w, p in zip(weights, members)) for c in range(len(row))], q)
        elif aggregation == 'loss':
            total += sum(w * kl(p, q) for w, p in zip(weights, members))
        else:
            mean = [sum(w * teacher[c] for w, teacher in zip(weights, logits)) for c in range(len(row))]
            total += kl(softmax([value / tau for value in mean]), q)
    return tau**2 * total / len(student)


def random_logits(*shape, seed=0, scale=3.0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * scale


def z_scores(logits):
    """Algorithm 1 of arXiv 2403.01427 with numpy: (z - mean) / std, the deviation of the C values."""
    logits = np.asarray(logits, dtype=np.float64)
    return (logits - logits.mean(axis=-1, keepdims=True)) / logits.std(axis=-1, keepdims=True)


@pytest.mark.parametrize('aggregation', AGGREGATIONS)
@pytest.mark.parametrize('weights', [[1.0], [1.0, 1.0, 1.0], [0.5, 3.0, 1.5], [0.0, 2.0, 1.0]])
@pytest.mark.parametrize('tau', [1.0, 4.0, 0.5])
@pytest.mark.parametrize('standardize', [False, True])
def test_value(aggregation, weights, tau, standardize):
    student, teachers = random_logits(5, 7), random_logits(len(weights), 5, 7, seed=1)
    loss = CohortKDLoss(tau, aggregation, 0.25, weights, standardize)(student, teachers)
    assert loss.dtype == torch.float64
    given = (z_scores(student), z_scores(teachers)) if standardize else (student, teachers)
    assert_close(loss.item(), 0.25 * by_hand(*given, tau, aggregation, weights), rtol=1e-10, atol=1e-12)


def test_value_worked_out_on_paper():
    """Student (1/2, 1/2); teachers (3/4, 1/4) and (1/4, 3/4): their mean is the student."""
    student, teachers = torch.zeros(1, 2), torch.tensor([[[3.0, 1.0]], [[1.0, 3.0]]]).log()
    one = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    for count, aggregation, expected in ((2, 'prob', 0), (2, 'logit', 0), (2, 'loss', one), (1, 'prob', one)):
        loss = cohort_kd_loss(student, teachers[:count], 1.0, aggregation)
        assert loss.item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize('tau', [1.0, 3.0, 4.0])
@pytest.mark.parametrize('aggregation', AGGREGATIONS)
@pytest.mark.parametrize('weights', [None, [0.3]])
def test_one_teacher_is_the_classical_loss(tau, aggregation, weights):
    """Its gradient bit for bit, and its value but for the rounding of the classical one."""
    student, teacher = (random_logits(16, 10, seed=seed, dtype=torch.float32) for seed in (0, 1))
    student.requires_grad_()
    classical = tau**2 * F.kl_div(F.log_softmax(student / tau, dim=1), F.log_softmax(teacher / tau, dim=1),
                                  log_target=True, reduction='batchmean')
    gradient, = torch.autograd.grad(classical, student)
    for given in (teacher[None], teacher):
        loss = cohort_kd_loss(student, given, tau, aggregation, weights)
        assert_close(loss, classical, rtol=1e-6, atol=0)
        assert torch.equal(torch.autograd.grad(loss, student)[0], gradient)
    z_scored = [cohort_kd_loss(student, teacher, tau, each, weights, True) for each in AGGREGATIONS]
    assert torch.equal(z_scored[0], z_scored[1]) and torch.equal(z_scored[0], z_scored[2])


@pytest.mark.parametrize('seed', range(20))
def test_equation_2_and_4_have_one_gradient(seed):
    generator = torch.Generator().manual_seed(seed)
    count = int(torch.randint(1, 7, (), generator=generator))
    tau = float(torch.empty(()).uniform_(0.5, 8.0, generator=generator))
    weights = torch.rand(count, generator=generator).add(0.01).tolist()
    teachers = random_logits(count, 4, 6, seed=seed + 100)
    gradients, values = {}, {}
    for aggregation in ('prob', 'loss'):
        student = random_logits(4, 6, seed=seed + 200).requires_grad_()
        values[aggregation] = cohort_kd_loss(student, teachers, tau, aggregation, weights)
        gradients[aggregation], = torch.autograd.grad(values[aggregation], student)
    assert_close(gradients['prob'], gradients['loss'], rtol=1e-9, atol=1e-12)
    # both are tau * (q - mean_m P_m) / N
    mean = torch.einsum('m,mnc->nc', torch.tensor(weights, dtype=torch.float64) / sum(weights),
                        (teachers / tau).softmax(dim=2))
    expected = tau * ((random_logits(4, 6, seed=seed + 200) / tau).softmax(dim=1) - mean) / 4
    assert_close(gradients['prob'], expected, rtol=1e-9, atol=1e-12)
    assert values['loss'].item() >= values['prob'].item() - 1e-12  # Jensen


@pytest.mark.parametrize('aggregation', AGGREGATIONS)
def test_only_proportions_of_weights_matter_and_none_means_equal(aggregation):
    loss = partial(cohort_kd_loss, random_logits(5, 7), random_logits(2, 5, 7, seed=1), 4.0, aggregation)
    assert_close(loss([2, 6]), loss([0.25, 0.75]), rtol=1e-12, atol=0)
    assert torch.equal(loss(), loss([5, 5]))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('aggregation', AGGREGATIONS)
@pytest.mark.parametrize('standardize', [False, True])
def test_half_precision_logits_are_computed_in_float32(dtype, aggregation, standardize):
    student, teachers = random_logits(8, 10).to(dtype), random_logits(3, 8, 10, seed=1).to(dtype)
    given = [z_scores(logits.double()) if standardize else logits.double() for logits in (student, teachers)]
    exact = by_hand(*given, 4.0, aggregation, [1, 1, 1])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = CohortKDLoss(4.0, aggregation, standardize=standardize)(student.requires_grad_(), teachers)
    assert loss.dtype == torch.float32
    assert_close(loss.item(), exact, rtol=1e-5, atol=1e-6)  # bfloat16 itself would be off by 1e-2
    loss.backward()
    assert student.grad.dtype == dtype and student.grad.isfinite().all()


@pytest.mark.parametrize('tau, accuracy', [(1.0, 1e-5), (4.0, 1e-5), (100.0, 1e-4), (1000.0, 1e-3)])
@pytest.mark.parametrize('classes', [2, 10, 1000, 20_000])
@pytest.mark.parametrize('distance', [3.0, 0.3])
def test_float32_is_exact_where_teacher_and_student_are_almost_equal(tau, accuracy, classes, distance):
    """At a high temperature all are. ``F.kl_div`` was wrong by 40 % with 20,000 classes at 1000."""
    teachers = random_logits(3, 8, classes, seed=1, dtype=torch.float32)
    student = teachers.mean(dim=0) + random_logits(8, classes, scale=distance, dtype=torch.float32)
    losses = [CohortKDLoss(tau, aggregation, standardize=standardize)
              for aggregation in AGGREGATIONS for standardize in (False, True)] + [DecoupledKDLoss(tau)]
    for loss in losses:
        labels = (torch.arange(8) % classes, ) if isinstance(loss, DecoupledKDLoss) else ()
        for given in (teachers, teachers[:1]):
            exact = loss(student.double(), given.double(), *labels)
            for same in (given, loss.target(given)):
                assert_close(loss(student, same, *labels).double(), exact, rtol=accuracy, atol=0)


def test_large_float16_logits_do_not_overflow():
    student = torch.tensor([[60000.0, -60000.0]], dtype=torch.float16)
    teacher = torch.tensor([[[0.0, 60000.0]]], dtype=torch.float16)
    # the teacher is sure of class 1, whose log probability the student puts at -120000: KL = 120000
    assert_close(cohort_kd_loss(student, teacher, 1.0).item(), 119936.0, rtol=1e-3, atol=0)


# ---------------------------------------------------------------- logit standardisation (arXiv 2403.01427)
def test_standardized_value_worked_out_on_paper():
    """Logits 0, 2 have mean 1 and deviation 1 (of a sample it would be the root of 2), so z = -1, 1."""
    student, teacher = torch.tensor([[7.0, 5.0]]), torch.tensor([[[0.0, 2.0]]])
    p, q = softmax([-1.0, 1.0]), softmax([1.0, -1.0])
    assert_close(cohort_kd_loss(student, teacher, 1.0, standardize=True).item(), kl(p, q))
    assert kl(p, q) == pytest.approx(2 * (p[1] - p[0]))


@pytest.mark.parametrize('aggregation', AGGREGATIONS)
def test_standardized_loss_does_not_change_with_shift_and_scale(aggregation):
    """Of each image's logits, by numbers of its own; without standardisation it does."""
    student, teachers = random_logits(5, 7), random_logits(3, 5, 7, seed=1)
    shift, scale = random_logits(3, 5, 1, seed=2), random_logits(3, 5, 1, seed=3).abs() + 0.1
    with_it, without = (partial(cohort_kd_loss, tau=2.0, aggregation=aggregation, standardize=standardize)
                        for standardize in (True, False))
    for logits in ((student * scale[0] + shift[0], teachers), (student, teachers * scale + shift),
                   (student * scale[1] - shift[1], teachers * scale - shift)):
        assert_close(with_it(*logits), with_it(student, teachers), rtol=1e-10, atol=0)
        assert abs(without(*logits).item() - without(student, teachers).item()) > 1e-2


def test_standardized_gradient_is_orthogonal_to_shift_and_scale():
    student = random_logits(5, 7).requires_grad_()
    cohort_kd_loss(student, random_logits(3, 5, 7, seed=1), 2.0, standardize=True).backward()
    assert student.grad.abs().max() > 1e-3
    for along in (student.grad, student.grad * student.detach()):
        assert along.sum(dim=1).abs().max() < 1e-12


@pytest.mark.parametrize('aggregation', AGGREGATIONS)
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize('value', [0.0, 1000.1])
def test_constant_logits_are_the_uniform_distribution(aggregation, dtype, value):
    """Of a student, with finite gradients; likewise of a teacher."""
    student = torch.full((4, 10), value, dtype=dtype).requires_grad_()
    teachers = random_logits(2, 4, 10).to(dtype)
    loss = cohort_kd_loss(student, teachers, 2.0, aggregation, standardize=True)
    uniform = by_hand(torch.zeros(4, 10), z_scores(teachers), 2.0, aggregation, [1, 1])
    assert_close(loss.item(), uniform, rtol=2e-3, atol=1e-6)
    loss.backward()
    assert student.grad.isfinite().all()
    reversed_loss = cohort_kd_loss(teachers[0], student.detach()[None], 2.0, aggregation, standardize=True)
    uniform = by_hand(z_scores(teachers[0]), [torch.zeros(4, 10)], 2.0, aggregation, [1])
    assert_close(reversed_loss.item(), uniform, rtol=2e-3, atol=1e-6)


# ---------------------------------------------------------------- bad input
@pytest.mark.parametrize('settings, message', [
    (dict(tau=0), 'tau=0 should be a finite number, at least 0.01'),
    (dict(aggregation='mean'), r"aggregation='mean' should be one of \('prob', 'logit', 'loss'\)"),
    (dict(loss_weight=-1), 'loss_weight=-1 should be a finite number, at least 0'),
    (dict(standardize='yes'), "standardize='yes' should be True or False"),
    (dict(teacher_weights=[1, -0.5]), r'teacher_weights=-0\.5'),
    (dict(teacher_weights=[0.0, 0.0]), r'teacher_weights=\[0\.0, 0\.0\] should not all be 0'),
    (dict(teacher_weights=0.5), 'teacher_weights=0.5 should be a list of numbers, one for each teacher')])
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        CohortKDLoss(**settings)


@pytest.mark.parametrize('shape, weights, message', [
    ((3, 5, 8), None, r'\(5, 8\) should have the \(N, C\) of the student, \(5, 7\): do teacher and student'),
    ((3, 4, 7), None, r'\(4, 7\) should have the \(N, C\)'), ((7, ), None, r'\(7,\) should be \(M, N, C\)'),
    ((2, 3, 5, 7), None, r'\(2, 3, 5, 7\) should be \(M, N, C\)'),
    ((3, 5, 7), [1, 2], r'teacher_weights=\[1, 2\] should be 3 numbers')])
def test_logits_that_do_not_fit_are_named(shape, weights, message):
    with pytest.raises(ValueError, match=message):
        cohort_kd_loss(torch.zeros(5, 7), torch.zeros(*shape), 4.0, teacher_weights=weights)
