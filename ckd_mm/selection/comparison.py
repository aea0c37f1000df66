"""How well selectors predict which snapshot teaches best."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np

from ..errors import CkdError
from .selector import Selection

# epoch of a snapshot to accuracies of its students, percent, one for each seed
Truth = dict[int, list[float]]


@dataclass
class SelectorScore:
    """How good the choice and the scores of a selector were."""
    selector: str
    chosen: int  # epoch
    accuracy: float  # of the students taught by that snapshot, mean over seeds, percent
    regret: float  # how much less that is than the best mean of all snapshots, points
    regret_error: float | None  # its standard error over seeds; None with one seed, 0 for the best
    rho: float | None  # Spearman's, of scores and mean accuracies; None without scores, or if all are equal
    rho_low: float | None  # its 95 % interval
    rho_high: float | None
    teacher_forwards: float  # cost of the scores
    seconds: float
    scores: dict[int, float]


def selector_score(name: str, selection: Selection, truth: Truth) -> SelectorScore:
    """Raises CkdError if no student was taught by the chosen snapshot, or several were chosen."""
    epochs = [snapshot.time for snapshot in selection.snapshots]
    if len(epochs) != 1 or epochs[0] not in truth:
        raise CkdError(f'{name} chose epochs {epochs}, but students were taught by the snapshots of epochs '
                       f'{sorted(truth)}, one each; compare selectors that choose one of these')
    means = {epoch: mean(accuracies) for epoch, accuracies in truth.items()}
    chosen, best, error = epochs[0], max(sorted(means), key=means.get), None
    if len(truth[chosen]) > 1 and len(truth[best]) > 1:
        variance = sum(np.var(truth[epoch], ddof=1) / len(truth[epoch]) for epoch in (best, chosen))
        error = 0.0 if chosen == best else float(np.sqrt(variance))
    scores = {row['epoch']: row['score'] for row in selection.scores if row['epoch'] in truth}
    rho = rank_correlation(scores, truth) if set(scores) == set(truth) else (None, None, None)
    return SelectorScore(name, chosen, means[chosen], means[best] - means[chosen], error, *rho,
                         selection.cost['teacher_forwards'], selection.cost['seconds'], scores)


def rank_correlation(scores: dict[int, float], truth: Truth, draws: int = 2000,
                     seed: int = 0) -> tuple[float, float, float] | tuple[None, None, None]:
    """Spearman's rho of scores and mean accuracies, and the ends of its 95 % interval from a bootstrap over
    both snapshots and seeds; None if all scores, or all accuracies, are equal."""
    values = np.array([scores[epoch] for epoch in sorted(truth)], dtype=float)
    accuracies = [np.array(truth[epoch]) for epoch in sorted(truth)]
    rho = float(spearman(values, np.array([found.mean() for found in accuracies])))
    if np.isnan(rho):
        return None, None, None
    random, rows, means = np.random.default_rng(seed), [], []
    for _ in range(draws):
        rows.append(random.integers(len(values), size=len(values)))
        drawn = (accuracies[row] for row in rows[-1])
        means.append([found[random.integers(len(found), size=len(found))].mean() for found in drawn])
    low, high = np.nanpercentile(spearman(values[np.array(rows)], np.array(means)), [2.5, 97.5])
    return rho, float(low), float(high)


def reliability(truth: Truth) -> float | None:
    """How well the truth predicts itself, which no selector can be expected to do much better: mean
    Spearman's rho between mean accuracies of one half of the seeds and of the other, over all ways to halve
    them. None with fewer than two seeds."""
    count = min(map(len, truth.values()))
    table = np.array([truth[epoch][:count] for epoch in sorted(truth)])
    halves = itertools.combinations(range(count), count // 2) if count > 1 else ()
    found = [spearman(table[:, half].mean(axis=1), np.delete(table, half, axis=1).mean(axis=1))
             for half in halves]
    return None if np.isnan(found).all() else float(np.nanmean(found))


def spearman(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The correlation of ranks along the last axis; NaN where all values of a side are equal."""
    left, right = (ranks(values) - (values.shape[-1] + 1) / 2 for values in (left, right))
    with np.errstate(invalid='ignore'):
        return (left * right).sum(-1) / np.sqrt((left**2).sum(-1) * (right**2).sum(-1))


def ranks(values: np.ndarray) -> np.ndarray:
    """From 1 on, along the last axis; equal values get the mean of their ranks."""
    column, row = values[..., :, None], values[..., None, :]
    return (row < column).sum(-1) + ((row == column).sum(-1) + 1) / 2


def mean_and_spread(values: Sequence[float]) -> dict[str, Any]:
    """``n``, ``mean`` and ``spread``, the sample standard deviation; None where there are too few values."""
    return dict(n=len(values), mean=mean(values) if values else None,
                spread=stdev(values) if len(values) > 1 else None)


def summarise(comparisons: Sequence[Sequence[SelectorScore]]) -> list[dict[str, Any]]:
    """Of each selector the means of rho, regret and costs over several teachers' trajectories, and the
    standard deviations of the first two (None of one trajectory)."""
    rows = []
    for found in zip(*comparisons):
        rho = mean_and_spread([score.rho for score in found if score.rho is not None])
        regret = mean_and_spread([score.regret for score in found])
        rows.append(dict(selector=found[0].selector, trajectories=len(found), rho=rho['mean'],
                         rho_spread=rho['spread'], regret=regret['mean'], regret_spread=regret['spread'],
                         teacher_forwards=mean(score.teacher_forwards for score in found),
                         seconds=mean(score.seconds for score in found)))
    return rows


def markdown(*rows: Sequence[Any]) -> str:
    """A table; the first row is its header."""
    lines = [rows[0], ['---'] * len(rows[0]), *rows[1:]]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def plus_minus(value: float, spread: float | None, form: str = '.2f') -> str:
    return format(value, form) + ('' if spread is None else f' ± {spread:.2f}')


def table_of(scores: Sequence[SelectorScore]) -> str:
    """As Markdown."""
    rows = []
    for row in scores:
        rho = '-' if row.rho is None else f'{row.rho:+.2f} ({row.rho_low:+.2f} to {row.rho_high:+.2f})'
        rows.append((f'`{row.selector}`', row.chosen, rho, f'{row.accuracy:.2f}',
                     plus_minus(row.regret, row.regret_error), f'{row.teacher_forwards:,.0f}',
                     f'{row.seconds:.1f}'))
    return markdown(('selector', 'chose', 'rank correlation (95 %)', 'its student, %', 'regret, points',
                     'teacher forwards', 'seconds'), *rows)


def summary_of(rows: Sequence[dict[str, Any]]) -> str:
    """:func:`summarise` as Markdown."""
    return markdown(
        ('selector', 'rank correlation, mean ± spread', 'regret, points', 'teacher forwards', 'seconds'),
        *((f'`{row["selector"]}`',
           '-' if row['rho'] is None else plus_minus(row['rho'], row['rho_spread'], '+.2f'),
           plus_minus(row['regret'], row['regret_spread']), f'{row["teacher_forwards"]:,.0f}',
           f'{row["seconds"]:.1f}') for row in rows))
