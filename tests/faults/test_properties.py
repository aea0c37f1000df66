"""Laws that hold for any logits, epochs and manifests: hypothesis looks for those for which they do not."""

import json
import math
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from ckd_mm.errors import ConfigError
from ckd_mm.files import plain
from ckd_mm.hooks.anneal_distillation_hook import annealed
from ckd_mm.losses import cohort_kd_loss
from ckd_mm.losses.decoupled_kd_loss import decoupled_kd_loss
from ckd_mm.losses.dist_loss import dist_loss
from ckd_mm.losses.normalized_kd_loss import normalized_kd_loss
from ckd_mm.losses.soft_target import AGGREGATIONS, soft_target
from ckd_mm.record import differences, flatten
from ckd_mm.selection import build_selector
from ckd_mm.trajectory import Trajectory, snapshot_times
from ckd_mm.trajectory.snapshot import Snapshot

TAUS = st.floats(0.3, 20.0)
SIZES = dict(members=st.integers(1, 4), images=st.integers(1, 5), classes=st.integers(2, 7))


# ------------------------------------------------------------ losses, by numpy in float64
@st.composite
def logits(draw, scale=st.floats(0.01, 20.0)):
    """Of a student (N, C) and of teachers (M, N, C)."""
    members, images, classes = (draw(size) for size in SIZES.values())
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    factor = draw(scale)
    student, teachers = random.normal(size=(images, classes)), random.normal(size=(members, images, classes))
    return student * factor, teachers * factor


def log_softmax(values):
    shifted = values - values.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def divergence(log_p, log_q):
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def close(found: torch.Tensor, expected: float) -> None:
    assert found.item() == pytest.approx(float(expected), rel=1e-9, abs=1e-9)


@given(logits(), TAUS, st.sampled_from(AGGREGATIONS), st.data())
def test_cohort_kd_loss_and_its_gradient(both, tau, aggregation, data):
    student, teachers = both
    shares = np.array(data.draw(st.lists(st.floats(0.01, 9), min_size=len(teachers), max_size=len(teachers))))
    log_q, share = log_softmax(student / tau), shares / shares.sum()
    members = log_softmax(teachers / tau)
    mean = np.einsum('m,mnc->nc', share, np.exp(members))  # of the probabilities
    if aggregation == 'logit':
        mean = np.exp(log_softmax(np.einsum('m,mnc->nc', share, teachers) / tau))
    if aggregation == 'loss':
        each = np.einsum('m,mn->n', share, divergence(members, log_q[None]))
    else:
        each = divergence(np.log(mean), log_q)
    leaf = torch.from_numpy(student).requires_grad_()
    found = cohort_kd_loss(leaf, torch.from_numpy(teachers), tau, aggregation, list(shares))
    close(found, tau**2 * each.mean())
    found.backward()  # the weighted mean of KL(p || q) has the gradient (q - mean of p) / tau
    np.testing.assert_allclose(leaf.grad, tau * (np.exp(log_q) - mean) / len(student), rtol=1e-7, atol=1e-9)


@given(logits(), TAUS, st.sampled_from(AGGREGATIONS))
def test_a_kept_target_teaches_as_its_logits(both, tau, aggregation):
    student, teachers = map(torch.from_numpy, both)
    target = soft_target(teachers, tau, aggregation)
    assert cohort_kd_loss(student, target, tau, aggregation) == cohort_kd_loss(
        student, teachers, tau, aggregation)


@given(logits(), TAUS, st.sampled_from(AGGREGATIONS))
def test_who_agrees_with_all_teachers_loses_nothing(both, tau, aggregation):
    student = torch.from_numpy(both[0])
    assert abs(cohort_kd_loss(student, student.expand(3, -1, -1), tau, aggregation).item()) < 1e-9 * tau**2


@given(logits(), TAUS, st.floats(-100, 100))
def test_a_constant_on_all_logits_says_nothing(both, tau, constant):
    student, teachers = map(torch.from_numpy, both)
    found = cohort_kd_loss(student + constant, teachers - constant, tau)
    close(found, cohort_kd_loss(student, teachers, tau))


@given(logits(), TAUS, st.floats(0, 5), st.floats(0, 10), st.data())
def test_decoupled_kd_loss(both, tau, target_weight, non_target_weight, data):
    student, teachers = both
    labels = data.draw(st.lists(st.integers(0, student.shape[1] - 1), min_size=len(student),
                                max_size=len(student)))
    p, q = np.exp(log_softmax(teachers / tau)).mean(axis=0), np.exp(log_softmax(student / tau))
    assume(min(1 - p.max(), 1 - q.max()) > 1e-4)  # else the formula below is the one that rounds
    total = 0.0
    for row, label in enumerate(labels):
        binary = [np.array([x[row, label], 1 - x[row, label]]) for x in (p, q)]
        others = [np.delete(x[row], label) / (1 - x[row, label]) for x in (p, q)]
        total += target_weight * divergence(*map(np.log, binary))
        total += non_target_weight * divergence(*map(np.log, others))
    found = decoupled_kd_loss(torch.from_numpy(student), torch.from_numpy(teachers), torch.tensor(labels),
                              tau, target_weight, non_target_weight)
    assert found.item() == pytest.approx(tau**2 * total / len(student), rel=1e-6, abs=1e-9)


@given(logits(), TAUS)
def test_dist_loss(both, tau):
    student, teachers = both
    assume(min(student.shape) > 1)
    p, q = np.exp(log_softmax(teachers / tau)).mean(axis=0), np.exp(log_softmax(student / tau))
    spread = [x.std(axis=axis).min() for x in (p, q) for axis in (0, 1)]
    assume(min(spread) > 1e-2)  # the authors add an epsilon for what has none
    inter = 1 - np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p, q)])
    intra = 1 - np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T)])
    found = dist_loss(torch.from_numpy(student), torch.from_numpy(teachers), tau, 2.0, 3.0)
    assert found.item() == pytest.approx(tau**2 * (2 * inter + 3 * intra), rel=1e-3, abs=1e-4 * tau**2)


@given(logits(), TAUS, st.floats(0, 3), st.data())
def test_normalized_kd_loss(both, tau, weight, data):
    student, teachers = both
    labels = data.draw(st.lists(st.integers(0, student.shape[1] - 1), min_size=len(student),
                                max_size=len(student)))
    log_t, log_s = np.log(np.exp(log_softmax(teachers)).mean(axis=0)), log_softmax(student)
    total = 0.0
    for row, label in enumerate(labels):
        others_t, others_s = (log_softmax(np.delete(x[row], label) / tau) for x in (log_t, log_s))
        total -= np.exp(log_t[row, label]) * log_s[row, label]
        total -= weight * tau**2 * (np.exp(others_t) * others_s).sum()
    close(normalized_kd_loss(torch.from_numpy(student), torch.from_numpy(teachers), torch.tensor(labels), tau,
                             weight), total / len(student))


# ------------------------------------------------------------ schedules
@given(st.integers(1, 400), st.integers(1, 400))
def test_snapshots_of_intervals_and_phases(last, number):
    assert snapshot_times(last, interval=number) == [
        epoch for epoch in range(1, last + 1) if epoch % number == 0 or epoch == last]
    if number > last:
        with pytest.raises(ConfigError, match=f'phases={number} but the run has only {last} epochs'):
            snapshot_times(last, phases=number)
        return
    ends = snapshot_times(last, phases=number)
    assert ends == sorted(set(ends)) and ends[-1] == last and len(ends) == number
    assert ends == [math.floor(Fraction(index * last, number) + Fraction(1, 2))
                    for index in range(1, number + 1)]


@given(st.floats(0, 10), st.floats(0, 10), st.floats(-1, 2), st.sampled_from(['linear', 'cosine']))
def test_annealed_weights(first, last, part, mode):
    found = annealed(first, last, part, mode)
    if part <= 0 or part >= 1:
        assert found == (first if part <= 0 else last)
    assert min(first, last) - 1e-9 <= found <= max(first, last) + 1e-9
    assert annealed(first, last, 0.5, mode) == pytest.approx((first + last) / 2)
    assert annealed(last, first, 1 - part, mode) == pytest.approx(found, abs=1e-9)


# ------------------------------------------------------------ selectors
EPOCHS = st.lists(st.integers(1, 300), min_size=1, max_size=12, unique=True)


def chosen(selector, epochs, planned) -> list[int]:
    """By a selector, of a trajectory with these epochs."""
    run = Trajectory(Path('nowhere'), [Snapshot(Path(f'{epoch}.pth'), epoch=epoch) for epoch in epochs],
                     dict(max_epochs=planned))
    return [snapshot.epoch for snapshot in build_selector(selector).select(run).snapshots]


@given(EPOCHS, st.floats(0.01, 1))
def test_selectors_of_one_epoch(epochs, fraction):
    planned = max(epochs)
    assert chosen('last', epochs, planned) == [planned]
    wanted = fraction * planned
    found, = chosen(dict(type='fraction', fraction=fraction), epochs, planned)
    nearest = min(abs(epoch - wanted) for epoch in epochs)
    assert abs(found - wanted) <= nearest + 1e-6  # of two that are equally near the later
    assert found == max(epoch for epoch in epochs if abs(abs(epoch - wanted) - nearest) < 5e-7)


@given(st.integers(1, 60), st.integers(1, 60))
def test_selectors_of_phases(planned, k):
    epochs = list(range(1, planned + 1))
    for selector in (dict(type='even', k=k), dict(type='ensemble', kind='snapshot', k=k)):
        if k > planned:
            with pytest.raises(ConfigError, match=f'k={k} snapshots at the ends of equal phases'):
                chosen(selector, epochs, planned)
        else:
            assert chosen(selector, epochs, planned) == snapshot_times(planned, phases=k)


@given(EPOCHS, EPOCHS)
def test_listed_epochs_are_there_or_missed(epochs, listed):
    if set(listed) <= set(epochs):
        assert chosen(dict(type='epoch', epochs=listed), epochs, max(epochs)) == sorted(listed)
    else:
        with pytest.raises(ConfigError, match='but the trajectory has no snapshot at'):
            chosen(dict(type='epoch', epochs=listed), epochs, max(epochs))


# ------------------------------------------------------------ what is on disk
NAMES = st.text(min_size=1, max_size=8).filter(lambda name: name.isprintable())
COUNTS, RATES = st.integers(0, 2**60), st.floats(0, 1e9)
SNAPSHOTS = st.lists(st.builds(
    dict, epoch=st.integers(1, 10**6), iteration=st.none() | COUNTS, lr=st.none() | RATES,
    metrics=st.dictionaries(NAMES, st.floats(-1e9, 1e9), max_size=3), size=st.none() | st.integers(1, 2**60),
    sha256=st.none() | st.text('0123456789abcdef', min_size=64, max_size=64), seconds=st.none() | RATES),
    max_size=5, unique_by=lambda item: item['epoch'])


@given(SNAPSHOTS, st.lists(NAMES, min_size=1, max_size=5, unique=True), st.integers(1, 1000))
def test_a_manifest_comes_back(tmp_path_factory, snapshots, classes, seed):
    folder = tmp_path_factory.mktemp('manifest')
    model = dict(type='ImageClassifier', backbone=dict(type='ResNet_CIFAR', depth=18))
    written = Trajectory(folder, [Snapshot(folder / f'snapshots/epoch_{item["epoch"]}.pth', model=model,
                                           classes=tuple(classes), **item) for item in snapshots],
                         dict(model=model, classes=classes, max_epochs=10**6, seed=seed))
    written.save()
    found = Trajectory.from_manifest(folder / 'trajectory.json')
    assert list(map(asdict, found)) == list(map(asdict, written))
    assert {key: found.info[key] for key in written.info} == written.info
    before = written.manifest.read_bytes()
    found.save()
    assert written.manifest.read_bytes() == before


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                          st.text('abc_', min_size=1, max_size=3), inner, max_size=3), max_leaves=12)


@given(VALUES)
def test_settings_on_disk_are_those_that_were_written(value):
    written = json.loads(json.dumps(plain(value)))
    assert written == plain(value) == plain(written)
    assert differences(flatten(dict(key=value)), flatten(dict(key=written))) == []
