"""Trials side by side: mean and spread over seeds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ..files import read_json, write_json
from .trials import ALONE, EPOCH

RESULTS = 'results.json'


def mean_and_spread(values: Sequence[float]) -> dict[str, Any]:
    """``n``, ``mean`` and ``spread``, the sample standard deviation; None where there are too few values."""
    return dict(n=len(values), mean=mean(values) if values else None,
                spread=stdev(values) if len(values) > 1 else None)


def groups(rows: Sequence[dict], *keys: str) -> list[dict[str, Any]]:
    """Finished rows with the same ``keys`` as one: these keys, ``n``, ``mean``, ``spread`` and ``accuracies``
    by ``seeds``; accuracy of the cohort, and cost, mean over the seeds."""
    found: dict[tuple, list[dict]] = {}
    for row in sorted(rows, key=lambda row: row['seed']):
        if row.get('accuracy_top1') is not None:
            found.setdefault(tuple(repr(row[key]) for key in keys), []).append(row)
    result = []
    for members in found.values():
        accuracies, costs = [row['accuracy_top1'] for row in members], [row['cost'] for row in members]
        known = [name for name in costs[0] if all(cost.get(name) is not None for cost in costs)]
        result.append(dict({key: members[0][key] for key in keys}, **mean_and_spread(accuracies),
                           accuracies=accuracies, seeds=[row['seed'] for row in members],
                           cohort_accuracy_top1=members[0]['cohort_accuracy_top1'],
                           cost={name: mean(cost[name] for cost in costs) for name in known}))
    return result


@dataclass
class SweepResults:
    """
    Args:
        trials: a row each, see :func:`ckd_mm.sweep.collect`.
        trajectory: folders of the teacher's snapshots, the first is that of the epochs.
        config_text: the config that all trials share.
    """
    trials: list[dict[str, Any]] = field(default_factory=list)
    trajectory: list[str] = field(default_factory=list)
    config_text: str = ''

    def by_epoch(self) -> dict[int, list[float]]:
        """Teacher epoch to the accuracies of its students, in the order of their seeds."""
        return {row['epoch']: row['accuracies'] for row in self.epochs}

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """One row a teacher epoch, see :func:`groups`."""
        found = groups([row for row in self.trials if row['kind'] == EPOCH], 'epoch')
        return sorted(found, key=lambda row: row['epoch'])

    @property
    def alone(self) -> dict[str, Any] | None:
        """The student without a teacher."""
        return next(iter(groups([row for row in self.trials if row['kind'] == ALONE], 'kind')), None)

    @property
    def ensembles(self) -> list[dict[str, Any]]:
        """One row a kind and size."""
        found = groups([row for row in self.trials if row['kind'] not in (ALONE, EPOCH)], 'kind', 'k')
        return sorted(found, key=lambda row: (row['kind'], row['k']))

    def table(self) -> str:
        rows = [('nobody', self.alone)] if self.alone else []
        rows += [(f'epoch {row["epoch"]}', row) for row in self.epochs]
        rows += [(f'{row["kind"]}, k={row["k"]}', row) for row in self.ensembles]
        lines = [('who teaches', 'their top-1 %', 'student top-1 %', 'spread', 'seeds', 'epochs', 'hours')]
        for name, row in rows:
            cost = row['cost']
            lines.append((name, shown(row['cohort_accuracy_top1']), shown(row['mean']), shown(row['spread']),
                          str(row['n']), shown(cost.get('total_epochs'), 'g'),
                          shown(cost.get('total_hours'), '.3g')))
        return '\n'.join('{:<20} {:>13} {:>16} {:>7} {:>6} {:>7} {:>7}'.format(*line) for line in lines)

    def write(self, work_dir: Path) -> list[Path]:
        """``results.json``; of what there is ``sweep.png`` (epochs) and ``ensembles.png`` (sizes)."""
        from ..report.sweep_figures import draw_ensembles, draw_sweep
        self.save(work_dir / RESULTS)
        written = [work_dir / RESULTS]
        for name, draw, rows in (('sweep.png', draw_sweep, self.epochs),
                                 ('ensembles.png', draw_ensembles, self.ensembles)):
            if rows:
                written.append(work_dir / name)
                draw(rows, self.alone, written[-1])
        return written

    def save(self, path: Path) -> None:
        write_json(path, dict(asdict(self), epochs=self.epochs, alone=self.alone, ensembles=self.ensembles))


def shown(value: float | None, form: str = '.2f') -> str:
    """A number for a table."""
    return '-' if value is None else format(value, form)


def load_results(path: Path) -> SweepResults:
    """
    Args:
        path: a sweep's work_dir, or its results.json.

    Raises:
        CkdError: there are no results.
    """
    read = read_json(path if Path(path).suffix == '.json' else Path(path, RESULTS))
    return SweepResults(read['trials'], read['trajectory'], read['config_text'])
