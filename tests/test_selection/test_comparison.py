"""The table that compares selectors, on numbers that can be redone by hand."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ckd_mm.errors import CkdError
from ckd_mm.selection import Selection
from ckd_mm.selection.comparison import (
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


def selection(scores, chosen) -> Selection:
    return Selection([Snapshot(Path('x.pth'), epoch=chosen)], 'because',
                     [dict(epoch=e, score=s) for e, s in scores.items()], 'units',
                     dict(teacher_forwards=300.0, seconds=2.5))


def test_a_selector_by_hand():
    # ranks of the scores 1, 3, 4, 2 and of the means 1, 4, 3, 2: rho = 1 - 6 (0 + 1 + 1 + 0) / (4 * 15) = 0.8
    found = selector_score('cmi', selection({10: 0.1, 20: 0.3, 30: 0.4, 40: 0.2}, 30), TRUTH)
    assert (found.chosen, found.accuracy, found.regret) == (30, 59.0, 2.0)
    assert found.rho == pytest.approx(0.8)
    assert found.regret_error == pytest.approx(np.sqrt(2 / 2 + 2 / 2))  # variance 2 of two seeds, twice
    assert found.rho_low <= found.rho <= found.rho_high
    assert (found.teacher_forwards, found.seconds) == (300.0, 2.5)


def test_the_best_choice_has_no_regret():
    means = {epoch: np.mean(values) for epoch, values in TRUTH.items()}
    found = selector_score('oracle', selection(means, 20), TRUTH)
    assert (found.regret, found.regret_error, found.rho) == (0.0, 0.0, pytest.approx(1.0))


def test_no_scores_no_correlation():
    assert selector_score('epoch', selection({}, 20), TRUTH).rho is None
    assert selector_score('flat', selection(dict.fromkeys(TRUTH, 1.0), 20), TRUTH).rho is None


def test_a_choice_that_nobody_was_taught_by():
    with pytest.raises(CkdError, match=r'late chose epochs \[50\], but students were taught by the snapshots '
                                       r'of epochs \[10, 20, 30, 40\]'):
        selector_score('late', selection({}, 50), TRUTH)


def test_interval_covers_the_truth_of_a_known_correlation():
    """Of a correlated normal sample: 40 snapshots, scores = accuracy + noise; the interval of most samples
    holds rho of the population."""
    inside = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        accuracy, noise = random.normal(size=(2, 40))
        scores = dict(
            enumerate(accuracy + noise))  # correlation sqrt(1/2); Spearman's rho 6/pi asin(r/2) = 0.690
        found = rank_correlation(scores, {
            index: [value]
            for index, value in enumerate(accuracy)
        }, draws=300, seed=seed)
        inside += found['low'] <= 6 / np.pi * np.arcsin(np.sqrt(0.5) / 2) <= found['high']
    assert inside >= 16  # 19 expected


@pytest.mark.parametrize('seed', range(5))
def test_ranks_with_ties(seed):
    left, right = np.random.default_rng(seed).integers(0, 6, (2, 12)).astype(float)
    assert ranks(left).tolist() == stats.rankdata(left).tolist()
    found = rank_correlation(dict(enumerate(left)), {index: [value] for index, value in enumerate(right)}, 3)
    assert found['rho'] == pytest.approx(stats.spearmanr(left, right)[0])


def test_reliability():
    assert reliability({1: [1.0, 1.1], 2: [2.0, 2.1], 3: [3.0, 3.3]}) == pytest.approx(1.0)
    assert reliability({1: [1.0, 3.0], 2: [2.0, 2.0], 3: [3.0, 1.0]}) == pytest.approx(-1.0)
    assert reliability({1: [1.0], 2: [2.0]}) is None


def test_means_over_trajectories():
    # rho 0.8, regret 2; rho 1, regret 0
    first = selector_score('cmi', selection({10: 0.1, 20: 0.3, 30: 0.4, 40: 0.2}, 30), TRUTH)
    second = selector_score('cmi', selection({10: 0.1, 20: 0.4, 30: 0.3, 40: 0.2}, 20), TRUTH)
    row, = summarise([[first], [second]])
    assert (row['rho'], row['regret']) == (pytest.approx(0.9), pytest.approx(1.0))
    assert (row['rho_spread'], row['regret_spread']) == (pytest.approx(np.sqrt(0.02)), pytest.approx(
        np.sqrt(2)))
    assert '| `cmi` | +0.90 ± 0.14 | 1.00 ± 1.41 | 300 | 2.5 |' in summary_of([row])
    assert '| `cmi` | 30 | +0.80 (' in table_of(
        [first]) and '| 59.00 | 2.00 ± 1.41 | 300 | 2.5 |' in table_of([first])
