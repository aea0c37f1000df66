"""How well selectors foretell which snapshot teaches best."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import CkdError
from .selector import Selection

# epoch of a snapshot to accuracies of its students, percent, one for each seed
Truth = dict[int, list[float]]


@dataclass
class SelectorScore:
    """How good the choice and the scores of a selector were.

    Args:
        chosen: the epoch that it chose.
        accuracy: of the students taught by that snapshot, mean over seeds, percent.
        regret: how much less that is than the best mean of all snapshots, points.
        regret_error: its standard error from the spread over seeds; None with one seed, and 0 for the best
            itself.
        rho: Spearman's rank correlation of scores and mean accuracies; None without scores, or if they are
            equal.
        rho_low, rho_high: its 95 % interval, see :func:`rank_correlation`.
        teacher_forwards, seconds: what the scores cost, see :class:`Selection`.
    """
    selector: str
    chosen: int
    accuracy: float
    regret: float
    regret_error: float | None
    rho: float | None
    rho_low: float | None
    rho_high: float | None
    teacher_forwards: float
    seconds: float
    scores: dict[int, float]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def selector_score(name: str, selection: Selection, truth: Truth) -> SelectorScore:
    """
    Raises:
        CkdError: no student was taught by the chosen snapshot, or it is not one.
    """
    epochs = [snapshot.epoch for snapshot in selection.snapshots]
    if len(epochs) != 1 or epochs[0] not in truth:
        raise CkdError(f'{name} chose epochs {epochs}, but students were taught by the snapshots of epochs '
                       f'{sorted(truth)}, one each; compare selectors that choose one of these')
    means = {epoch: float(np.mean(found)) for epoch, found in truth.items()}
    chosen, best, error = epochs[0], max(sorted(means), key=means.get), None
    if all(len(truth[epoch]) > 1 for epoch in (best, chosen)):
        variance = sum(np.var(truth[epoch], ddof=1) / len(truth[epoch]) for epoch in (best, chosen))
        error = 0.0 if chosen == best else float(np.sqrt(variance))
    scores = {row['epoch']: row['score'] for row in selection.scores if row['epoch'] in truth}
    rho = rank_correlation(scores, truth) if set(scores) == set(truth) else NO_CORRELATION
    return SelectorScore(name, chosen, means[chosen], means[best] - means[chosen], error, rho['rho'],
                         rho['low'], rho['high'], selection.cost['teacher_forwards'],
                         selection.cost['seconds'], scores)


NO_CORRELATION = dict(rho=None, low=None, high=None)


def rank_correlation(scores: dict[int, float], truth: Truth, draws: int = 2000,
                     seed: int = 0) -> dict[str, float | None]:
    """Spearman's ``rho`` of scores and mean accuracies, and a 95 % interval, ``low`` to ``high``, from a
    bootstrap over both snapshots and seeds; all None if all scores, or all accuracies, are equal."""
    epochs = sorted(truth)
    values = np.array([scores[epoch] for epoch in epochs], dtype=float)
    rho = _spearman(values, np.array([np.mean(truth[epoch]) for epoch in epochs]))
    if rho is None:
        return NO_CORRELATION
    random, found = np.random.default_rng(seed), []
    for _ in range(draws):
        rows = random.integers(len(epochs), size=len(epochs))
        drawn = [np.mean(random.choice(truth[epochs[row]], size=len(truth[epochs[row]]))) for row in rows]
        found.append(_spearman(values[rows], np.array(drawn)))
    low, high = np.percentile([value for value in found if value is not None], [2.5, 97.5])
    return dict(rho=rho, low=float(low), high=float(high))


def reliability(truth: Truth) -> float | None:
    """How well the truth foretells itself, which no selector can be expected to do much better: mean
    Spearman's rho between mean accuracies of one half of the seeds and of the other, over all ways to halve
    them. None with fewer than two seeds."""
    count, epochs, found = min(len(accuracies) for accuracies in truth.values()), sorted(truth), []
    if count < 2:
        return None
    for half in itertools.combinations(range(count), count // 2):
        rest = [index for index in range(count) if index not in half]
        found.append(_spearman(*(np.array([np.mean([truth[epoch][index] for index in part])
                                           for epoch in epochs]) for part in (half, rest))))
    found = [value for value in found if value is not None]
    return float(np.mean(found)) if found else None


def _spearman(left: np.ndarray, right: np.ndarray) -> float | None:
    """The correlation of ranks; None where all values of a side are equal."""
    if len(set(left)) < 2 or len(set(right)) < 2:
        return None
    return float(np.corrcoef(ranks(left), ranks(right))[0, 1])


def ranks(values: np.ndarray) -> np.ndarray:
    """From 1 on; equal values get the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place]


def summarise(comparisons: Sequence[Sequence[SelectorScore]]) -> list[dict[str, Any]]:
    """Of each selector the means of rho, regret and costs over several teachers' trajectories, and the
    standard deviations of the first two (None of one trajectory)."""
    rows = []
    for found in zip(*comparisons):
        rho, rho_spread = _mean_and_spread([score.rho for score in found if score.rho is not None])
        regret, regret_spread = _mean_and_spread([score.regret for score in found])
        rows.append(dict(selector=found[0].selector, trajectories=len(found), rho=rho, rho_spread=rho_spread,
                         regret=regret, regret_spread=regret_spread,
                         teacher_forwards=_mean_and_spread([score.teacher_forwards for score in found])[0],
                         seconds=_mean_and_spread([score.seconds for score in found])[0]))
    return rows


def _mean_and_spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    return (float(np.mean(values)) if values else None,
            float(np.std(values, ddof=1)) if len(values) > 1 else None)


def table_of(scores: Sequence[SelectorScore]) -> str:
    """As Markdown."""
    lines = ['| selector | chose | rank correlation (95 %) | its student, % | regret, points | teacher '
             'forwards | seconds |', '|---|---|---|---|---|---|---|']
    for row in scores:
        rho = '-' if row.rho is None else f'{row.rho:+.2f} ({row.rho_low:+.2f} to {row.rho_high:+.2f})'
        lines.append(f'| `{row.selector}` | {row.chosen} | {rho} | {row.accuracy:.2f} | '
                     f'{row.regret:.2f}{_spread(row.regret_error)} | {row.teacher_forwards:,.0f} | '
                     f'{row.seconds:.1f} |')
    return '\n'.join(lines)


def summary_of(rows: Sequence[dict[str, Any]]) -> str:
    """:func:`summarise` as Markdown."""
    lines = ['| selector | rank correlation, mean ± spread | regret, points | teacher forwards | seconds |',
             '|---|---|---|---|---|']
    for row in rows:
        rho = '-' if row['rho'] is None else f'{row["rho"]:+.2f}{_spread(row["rho_spread"])}'
        lines.append(f'| `{row["selector"]}` | {rho} | {row["regret"]:.2f}{_spread(row["regret_spread"])} | '
                     f'{row["teacher_forwards"]:,.0f} | {row["seconds"]:.1f} |')
    return '\n'.join(lines)


def _spread(value: float | None) -> str:
    return '' if value is None else f' ± {value:.2f}'
