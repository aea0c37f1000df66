"""Scores against formulas written out a second time."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.infoplane.estimators import ProbeImages
from ckd_mm.selection import SelectionContext, build_selector
from ckd_mm.selection.calibration import brier_score
from ckd_mm.selection.conditional_mutual_information import conditional_mutual_information
from ckd_mm.selection.score_selector import ScoreSelector, ScoreTable
from ckd_mm.trajectory import Snapshot, Trajectory

from ..conftest import resnet
from ..helpers import trajectory, with_statistics


def cmi_by_brute_force(probs, labels) -> float:
    """I(X;Ŷ|Y) = sum over y of P(y) sum over x, ŷ of P(x|y) P(ŷ|x) log P(ŷ|x) / P(ŷ|y), each image one x."""
    total = 0.0
    for y in set(labels):
        rows = [row for row, label in zip(probs, labels) if label == y]
        for guess in range(len(probs[0])):
            marginal = sum(row[guess] for row in rows) / len(rows)
            total += sum(row[guess] * math.log(row[guess] / marginal) for row in rows if row[guess] > 0)
    return total / len(labels)


def cmi(probs, labels) -> float:
    log_probs = torch.as_tensor(probs, dtype=torch.float64).log()
    return conditional_mutual_information(log_probs, torch.as_tensor(labels)).item()


def test_cmi_by_hand():
    """Two images of one class with certain, different predictions: one bit more than the class."""
    assert cmi([[1, 0], [0, 1]], [0, 0]) == pytest.approx(math.log(2))


@pytest.mark.parametrize('seed', range(5))
def test_cmi_of_random_tables(seed):
    random = np.random.default_rng(seed)
    probs, labels = np.exp(random.normal(size=(40, 6)) * 5), random.integers(6, size=40)
    probs[seed, 2] = 0  # as of a prediction that is certain
    probs /= probs.sum(axis=1, keepdims=True)
    found = cmi(probs, labels)
    assert found == pytest.approx(cmi_by_brute_force(probs, labels), abs=1e-12)
    assert 0 <= found <= math.log(6)


def test_cmi_is_zero_where_an_image_tells_no_more_than_its_class():
    probs, labels = torch.randn(4, 7, dtype=torch.float64).softmax(1), torch.tensor([0, 1, 2, 3, 3, 0])
    assert cmi(probs[labels], labels) == pytest.approx(0, abs=1e-12)


def test_cmi_with_likelihood():
    logits, labels = torch.randn(30, 4, dtype=torch.float64), torch.randint(4, (30, ))
    alone, summed = (build_selector(dict(type='cmi', **settings)).value(logits, labels)
                     for settings in ({}, dict(likelihood_weight=2.0)))
    assert summed == pytest.approx(alone - 2 * log_loss(labels, logits.softmax(1), labels=range(4)))


def test_calibration_measures():
    logits, labels = torch.randn(30, 4, dtype=torch.float64), torch.randint(4, (30, ))
    assert build_selector('calibration').value(logits, labels) == pytest.approx(
        -log_loss(labels, logits.softmax(1), labels=range(4)))
    rows = zip(logits.softmax(1).tolist(), labels.tolist())
    by_hand = np.mean([sum((p - (c == label))**2 for c, p in enumerate(row)) for row, label in rows])
    assert brier_score(logits, labels).item() == pytest.approx(by_hand)
    certain_and_wrong = brier_score(torch.tensor([[50.0, 0.0]]), torch.tensor([1]))
    assert certain_and_wrong.item() == pytest.approx(2)


class CountingSelector(ScoreSelector):
    """Scores by hand, and which snapshots it scored."""
    name, unit = 'counting', 'points'

    def __init__(self, scores, fail_at=None):
        self._scores, self._scored, self._fail_at = scores, [], fail_at

    def score(self, snapshot, context):
        if snapshot.epoch == self._fail_at:
            raise KeyboardInterrupt
        self._scored.append(snapshot.epoch)
        return dict(score=self._scores[snapshot.epoch], teacher_forwards=10.0)


class Images:
    """A probe."""

    def __init__(self, labels=(0, 1), **settings):
        self.images = ProbeImages(torch.zeros(len(labels), 3, 8, 8, dtype=torch.uint8), torch.tensor(labels))
        self.settings = settings

    def warn_if_seen(self, trajectory, log):
        pass


def context(probe=None, folder=None, log=lambda line: None):
    return SelectionContext(probe=probe or Images(), folder=folder, log=log)


def test_a_killed_selection_is_resumed(tmp_path):
    run, scores = trajectory(tmp_path / 'run', epochs=(1, 2, 3)), {1: 0.5, 2: 0.9, 3: 0.9}
    with pytest.raises(KeyboardInterrupt):
        CountingSelector(scores, fail_at=3).select(run, context(Images(images=5), tmp_path))
    again = CountingSelector(scores)
    selection = again.select(run, context(Images(images=5), tmp_path))
    assert again._scored == [3]
    assert [snapshot.epoch for snapshot in selection.snapshots] == [2]  # of equals the cheapest to train
    assert selection.cost['teacher_forwards'] == 30.0
    with pytest.raises(ConfigError, match='scored in another way: probe.images was 5, now 6'):
        CountingSelector({}).select(run, context(Images(images=6), tmp_path))


def test_a_snapshot_that_is_scored_anew_has_one_row(tmp_path):
    table = ScoreTable(tmp_path / 'scores.json', {})
    table.add([dict(epoch=1, sha256='a', score=1.0), dict(epoch=2, sha256='b', score=2.0)])
    table.add([dict(epoch=1, sha256='a', score=3.0), dict(epoch=3, sha256='c', score=0.0)])
    rows = ScoreTable(tmp_path / 'scores.json', {}).rows
    assert [(row['epoch'], row['score']) for row in rows] == [(1, 3.0), (2, 2.0), (3, 0.0)]
    whole = json.loads((tmp_path / 'scores.json').read_text())
    for damage, message in (
            (dict(rows=3), 'rows=3 should be a list'), (dict(settings=None), 'settings is missing'),
            (dict(rows=[dict(score=1.0)]), r'rows\[0\]\.epoch is missing'),
            (dict(rows=[dict(epoch=1, score='x')]), r"rows\[0\]\.score='x' should be a finite")):
        (tmp_path / 'scores.json').write_text(json.dumps({**whole, **damage}))
        with pytest.raises(CkdError, match=rf'scores\.json is damaged: {message}'):
            ScoreTable(tmp_path / 'scores.json', {})
    (tmp_path / 'scores.json').write_text('[]')
    with pytest.raises(CkdError, match='is no table of scores'):
        ScoreTable(tmp_path / 'scores.json', {})


@pytest.mark.parametrize('selector', ['cmi', 'calibration'])
def test_labels_that_are_no_class_of_the_teacher(tmp_path, selector):
    run = trajectory(tmp_path / 'run', epochs=(1, ), model=with_statistics(resnet(2, classes=5)),
                     classes=tuple('01234'))
    with pytest.raises(ConfigError, match=rf'{selector}: an image has label 7, but the teacher .*epoch_1.pth '
                                          r'\(epoch 1\) has 5 classes'):
        build_selector(selector).select(run, context(Images([0, 7])))


def test_cmi_of_few_images_a_class_says_so(tmp_path):
    run, lines = trajectory(tmp_path / 'run', epochs=(1, )), []
    build_selector('cmi').select(run, context(Images([0, 1, 2, 2, 1]), log=lines.append))
    assert 'Warning: cmi: there are 1.7 images a class' in '\n'.join(lines)
    lines.clear()
    build_selector('cmi').select(run, context(Images([0, 1] * 20), log=lines.append))
    assert 'Warning' not in '\n'.join(lines)


def test_scores_that_are_not_numbers(tmp_path):
    run = trajectory(tmp_path / 'run', epochs=(1, 2))
    with pytest.raises(CkdError, match=r'counting of snapshot .*epoch_2.pth \(epoch 2\) is not finite'):
        CountingSelector({1: 0.5, 2: math.nan}).select(run, context())


@pytest.mark.parametrize('selector', ['cmi', 'calibration', 'short_probe'])
def test_selectors_say_what_they_need(selector):
    run = Trajectory(Path('nowhere'), [Snapshot(Path('x.pth'), epoch=1)])
    with pytest.raises(ConfigError, match=f'selector: {selector} looks at images'):
        build_selector(selector).select(run, SelectionContext())
