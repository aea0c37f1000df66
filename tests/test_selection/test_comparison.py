"""The table that compares selectors, on numbers that can be redone by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ckd_mm.errors import CkdError
from ckd_mm.selection import Selection
from ckd_mm.selection.comparison import (
    mean_and_spread,
    rank_correlation,
    ranks,
    reliability,
    selector_score,
    summarise,
    summary_of,
    table_of,
)
from ckd_mm.trajectory import Snapshot

TRUTH = {10: [50.0, 52.0], 20: [60.0, 62.0], 30: [58.0, 60.0], 40: [55.0, 57.0]}  # means 51, 61, 59, 56


def scored(name, scores, chosen):
    selection = Selection([Snapshot(Path('x.pth'), epoch=chosen)], 'because',
                          [dict(epoch=epoch, score=score) for epoch, score in scores.items()], 'units',
                          dict(teacher_forwards=300.0, seconds=2.5))
    return selector_score(name, selection, TRUTH)


def test_mean_and_spread():
    assert mean_and_spread([1.0, 2.0, 6.0]) == dict(n=3, mean=3.0, spread=math.sqrt((4 + 1 + 9) / 2))
    assert mean_and_spread([5.0]) == dict(n=1, mean=5.0, spread=None)
    assert mean_and_spread([]) == dict(n=0, mean=None, spread=None)


def test_selectors_by_hand_and_their_means_over_trajectories():
    # ranks of the scores 1, 3, 4, 2 and of the means 1, 4, 3, 2: rho = 1 - 6 (0 + 1 + 1 + 0) / (4 * 15) = 0.8
    first = scored('cmi', {10: 0.1, 20: 0.3, 30: 0.4, 40: 0.2}, 30)
    assert (first.chosen, first.accuracy, first.regret, first.rho) == (30, 59.0, 2.0, pytest.approx(0.8))
    assert first.regret_error == pytest.approx(np.sqrt(2 / 2 + 2 / 2))  # variance 2 of two seeds, twice
    assert first.rho_low <= first.rho <= first.rho_high
    assert (first.teacher_forwards, first.seconds) == (300.0, 2.5)
    best = scored('cmi', {10: 0.1, 20: 0.4, 30: 0.3, 40: 0.2}, 20)
    assert (best.regret, best.regret_error, best.rho) == (0.0, 0.0, pytest.approx(1.0))
    row, = summarise([[first], [best]])
    assert (row['rho'], row['rho_spread']) == pytest.approx((0.9, np.sqrt(0.02)))
    assert (row['regret'], row['regret_spread']) == pytest.approx((1.0, np.sqrt(2)))
    assert '| `cmi` | +0.90 ± 0.14 | 1.00 ± 1.41 | 300 | 2.5 |' in summary_of([row])
    table = table_of([first])
    assert '| `cmi` | 30 | +0.80 (' in table and '| 59.00 | 2.00 ± 1.41 | 300 | 2.5 |' in table


@pytest.mark.parametrize('scores', [{}, dict.fromkeys(TRUTH, 1.0)])
def test_no_scores_no_correlation(scores):
    assert scored('flat', scores, 20).rho is None


def test_a_choice_that_taught_no_student():
    with pytest.raises(CkdError, match=r'late chose epochs \[50\], but students were taught by the snapshots '
                                       r'of epochs \[10, 20, 30, 40\]'):
        scored('late', {}, 50)


def test_interval_covers_the_truth_of_a_known_correlation():
    """Scores of 40 snapshots are their normal accuracies with normal noise, of correlation sqrt(1/2):
    Spearman's rho is 6 / pi asin(sqrt(1/2) / 2) = 0.690."""
    inside = 0
    for seed in range(20):
        accuracy, noise = np.random.default_rng(seed).normal(size=(2, 40))
        truth = {index: [value] for index, value in enumerate(accuracy)}
        _, low, high = rank_correlation(dict(enumerate(accuracy + noise)), truth, draws=150, seed=seed)
        inside += low <= 6 / np.pi * np.arcsin(np.sqrt(0.5) / 2) <= high
    assert inside >= 16  # 19 expected


@pytest.mark.parametrize('seed', range(5))
def test_ranks_with_ties(seed):
    left, right = np.random.default_rng(seed).integers(0, 6, (2, 12)).astype(float)
    assert ranks(left).tolist() == stats.rankdata(left).tolist()
    truth = {index: [value] for index, value in enumerate(right)}
    rho, _, _ = rank_correlation(dict(enumerate(left)), truth, draws=3)
    assert rho == pytest.approx(stats.spearmanr(left, right)[0])


def test_reliability():
    assert reliability({1: [1.0, 1.1], 2: [2.0, 2.1], 3: [3.0, 3.3]}) == pytest.approx(1.0)
    assert reliability({1: [1.0, 3.0], 2: [2.0, 2.0], 3: [3.0, 1.0]}) == pytest.approx(-1.0)
    assert reliability({1: [1.0], 2: [2.0]}) is None
