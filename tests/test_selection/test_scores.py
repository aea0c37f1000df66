"""Scores against formulas written out a second time."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.infoplane.estimators import ProbeImages
from ckd_mm.selection import SelectionContext, build_selector
from ckd_mm.selection.calibration import brier_score, negative_log_likelihood
from ckd_mm.selection.conditional_mutual_information import conditional_mutual_information
from ckd_mm.selection.score_selector import ScoreSelector, ScoreTable

from ..conftest import resnet
from ..helpers import trajectory, with_statistics


def cmi_by_brute_force(probs, labels) -> float:
    """I(X;Ŷ|Y) = sum over y of P(y) sum over x, ŷ of P(x|y) P(ŷ|x) log P(ŷ|x) / P(ŷ|y), each image one x."""
    total = 0.0
    for y in set(labels):
        rows = [row for row, label in zip(probs, labels) if label == y]
        for guess in range(len(probs[0])):
            marginal = sum(row[guess] for row in rows) / len(rows)
            for row in rows:
                if row[guess] > 0:
                    total += len(rows) / len(labels) / len(rows) * row[guess] * math.log(
                        row[guess] / marginal)
    return total


def test_cmi_of_a_small_table():
    probs = [[0.7, 0.2, 0.1], [0.5, 0.5, 0.0], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.2, 0.2, 0.6]]
    labels = [0, 0, 1, 2, 2]
    found = conditional_mutual_information(
        torch.tensor(probs, dtype=torch.float64).log(), torch.tensor(labels)).item()
    assert found == pytest.approx(cmi_by_brute_force(probs, labels), abs=1e-12)
    # by hand: two images of one class, certain of different answers: the image tells one bit that the class
    # does not
    certain = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).log()
    assert conditional_mutual_information(certain, torch.tensor([0, 0])).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize('seed', range(5))
def test_cmi_of_random_tables(seed):
    random = np.random.default_rng(seed)
    logits, labels = torch.from_numpy(random.normal(size=(40, 6)) * 5), torch.from_numpy(
        random.integers(6, size=40))
    log_probs = logits.log_softmax(1)
    found = conditional_mutual_information(log_probs, labels).item()
    assert found == pytest.approx(cmi_by_brute_force(log_probs.exp().tolist(), labels.tolist()), abs=1e-10)
    assert 0 <= found <= math.log(6)


def test_cmi_is_zero_where_an_image_tells_no_more_than_its_class():
    log_probs = torch.randn(4, 7, dtype=torch.float64).log_softmax(1)
    labels = torch.tensor([0, 1, 2, 3, 3, 0])
    assert conditional_mutual_information(log_probs[labels], labels).item() == pytest.approx(0, abs=1e-12)


def test_cmi_with_likelihood():
    logits, labels = torch.randn(30, 4, dtype=torch.float64), torch.randint(4, (30, ))
    plain, summed = (build_selector(dict(type='cmi', **settings)).value(logits, labels)
                     for settings in ({}, dict(likelihood_weight=2.0)))
    assert summed == pytest.approx(plain - 2 * log_loss(labels, logits.softmax(1), labels=range(4)))


def test_calibration_measures():
    logits, labels = torch.randn(30, 4, dtype=torch.float64), torch.randint(4, (30, ))
    assert negative_log_likelihood(logits, labels).item() == pytest.approx(
        log_loss(labels, logits.softmax(1), labels=range(4)))
    rows = zip(logits.softmax(1).tolist(), labels.tolist())
    by_hand = np.mean([sum((p - (c == label))**2 for c, p in enumerate(row)) for row, label in rows])
    assert brier_score(logits, labels).item() == pytest.approx(by_hand)
    assert brier_score(torch.tensor([[50.0, 0.0]]), torch.tensor([1])).item() == pytest.approx(
        2)  # certain and wrong


class CountingSelector(ScoreSelector):
    """Scores by hand, and which snapshots it was asked about."""
    name, unit = 'counting', 'points'

    def __init__(self, scores, fail_at=None):
        self._scores, self._asked, self._fail_at = scores, [], fail_at

    def score(self, snapshot, context):
        if snapshot.epoch == self._fail_at:
            raise KeyboardInterrupt
        self._asked.append(snapshot.epoch)
        return dict(score=self._scores[snapshot.epoch], teacher_forwards=10.0)


class NoImages:
    """Nobody looks at them."""
    settings = dict(images=5)
    images = ()

    def warn_if_seen(self, trajectory, log):
        pass


def test_a_killed_selection_goes_on(tmp_path):
    run = trajectory(tmp_path / 'run', epochs=(1, 2, 3))
    context = SelectionContext(probe=NoImages(), folder=tmp_path / 'select', log=lambda line: None)
    killed = CountingSelector({1: 0.5, 2: 0.9, 3: 0.9}, fail_at=3)
    with pytest.raises(KeyboardInterrupt):
        killed.select(run, context)
    again = CountingSelector({1: 0.5, 2: 0.9, 3: 0.9})
    selection = again.select(run, context)
    assert again._asked == [3]
    assert [snapshot.epoch for snapshot in selection.snapshots] == [2]  # of equals the cheapest to train
    assert selection.cost['teacher_forwards'] == 30.0
    NoImages.settings = dict(images=6)
    try:
        with pytest.raises(ConfigError, match='scored in another way: probe.images was 5, now 6'):
            CountingSelector({}).select(run, context)
    finally:
        NoImages.settings = dict(images=5)


def test_a_snapshot_that_is_scored_anew_has_one_row(tmp_path):
    table = ScoreTable(tmp_path / 'scores.json', {})
    table.add([dict(epoch=1, sha256='a', score=1.0), dict(epoch=2, sha256='b', score=2.0)])
    table.add([dict(epoch=1, sha256='a', score=3.0), dict(epoch=3, sha256='c', score=0.0)])
    assert [(row['epoch'], row['score'])
            for row in ScoreTable(tmp_path / 'scores.json', {}).rows] == [(1, 3.0), (2, 2.0), (3, 0.0)]


class Images(NoImages):
    def __init__(self, labels):
        self.images = ProbeImages(torch.zeros(len(labels), 3, 8, 8, dtype=torch.uint8), torch.tensor(labels))


@pytest.mark.parametrize('selector', ['cmi', 'calibration'])
def test_labels_that_are_no_class_of_the_teacher(tmp_path, selector):
    run = trajectory(tmp_path / 'run', epochs=(1, ), model=with_statistics(resnet(2, classes=5)),
                     classes=tuple('01234'))
    with pytest.raises(ConfigError, match=rf'{selector}: an image has label 7, but the teacher .*epoch_1.pth '
                                          r'\(epoch 1\) has 5 classes'):
        build_selector(selector).select(run, SelectionContext(probe=Images([0, 7]), log=lambda line: None))


def test_cmi_of_few_images_a_class_says_so(tmp_path):
    run, lines = trajectory(tmp_path / 'run', epochs=(1, )), []
    build_selector('cmi').select(run, SelectionContext(probe=Images([0, 1, 2, 2, 1]), log=lines.append))
    assert 'Warning: cmi: there are 1.7 images a class' in '\n'.join(lines)
    lines.clear()
    build_selector('cmi').select(run, SelectionContext(probe=Images([0, 1] * 20), log=lines.append))
    assert 'Warning' not in '\n'.join(lines)


def test_scores_that_are_not_numbers(tmp_path):
    run = trajectory(tmp_path / 'run', epochs=(1, 2))
    with pytest.raises(CkdError, match=r'counting of snapshot .*epoch_2.pth \(epoch 2\) is not finite'):
        CountingSelector({
            1: 0.5, 2: math.nan
        }).select(run, SelectionContext(probe=NoImages(), log=lambda line: None))


def test_another_file_is_no_table(tmp_path):
    (tmp_path / 'scores.json').write_text('[]')
    with pytest.raises(CkdError, match='is no table of scores'):
        ScoreTable(tmp_path / 'scores.json', {})


@pytest.mark.parametrize('selector', ['cmi', 'calibration', 'short_probe'])
def test_selectors_say_what_they_need(selector):
    with pytest.raises(ConfigError, match=f'selector: {selector} looks at images'):
        build_selector(selector).select(trajectory_of_nothing(), SelectionContext())


def trajectory_of_nothing():
    from ckd_mm.trajectory import Snapshot, Trajectory
    return Trajectory(Path('nowhere'), [Snapshot(Path('x.pth'), epoch=1)])


@pytest.mark.parametrize('selector, message', [
    (dict(type='cmi', tau=0), 'tau=0 should be a finite number, above 0'),
    (dict(type='cmi', likelihood_weight=-1), 'likelihood_weight=-1 should be a finite number, at least 0'),
    (dict(type='calibration', measure='ece'), "measure='ece' should be one of"),
    (dict(type='short_probe', epochs=0), 'epochs=0'),
    (dict(type='short_probe', factor=1), 'factor=1 should be a whole number, at least 2'),
    (dict(type='ensemble', kind='all', k=2), "kind='all' should be one of"),
    (dict(type='ensemble', kind='full', k=0), 'k=0')])
def test_bad_settings(selector, message):
    with pytest.raises(ConfigError, match=message):
        build_selector(selector)
