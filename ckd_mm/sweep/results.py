"""What came out of a sweep: every trial, and mean and spread over seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ..files import read_json, write_json
from .trials import ALONE, EPOCH, RECORD, TrialFolder

RESULTS = 'results.json'


def mean_and_spread(values: Sequence[float]) -> dict[str, Any]:
    """``n``, ``mean`` and ``spread``, the sample standard deviation; None where there are too few values."""
    return dict(n=len(values), mean=mean(values) if values else None,
                spread=stdev(values) if len(values) > 1 else None)


def read_trials(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """A row for each trial: what it is, its ``status`` and, where it is finished, accuracies after the last
    epoch in percent,
    cost and seconds."""
    rows = []
    for folder in folders:
        trial = TrialFolder(folder)
        row = {key: value for key, value in trial.record.items() if key != 'settings'}
        row['status'] = trial.status
        if row['status'] == 'finished':
            summary = trial.summary
            row.update(accuracy_top1=summary['student']['accuracy_top1'],
                       cohort_accuracy_top1=summary['cohort']['accuracy_top1'],
                       teacher_epochs=summary['selection']['epochs'], cost=summary.get('cost') or {},
                       seconds=sum(summary['seconds'].values()))
            if row['kind'] == ALONE:  # its run names a teacher, but nobody taught
                cost = row['cost']
                row.update(cohort_accuracy_top1=None, teacher_epochs=[], cost=dict(
                    cost, teacher_epochs=0, teacher_hours=0.0, total_epochs=cost.get('student_epochs'),
                    total_hours=cost.get('student_hours')))
        elif row['status'] == 'failed':
            row['error'] = trial.failure['error']
        rows.append(row)
    return rows


def trial_folders(folder: Path) -> list[Path]:
    """Of all trials below ``folder``, those of earlier sweeps too."""
    return sorted(record.parent for record in Path(folder).glob(f'*/{RECORD}'))


def groups(rows: Sequence[dict], *keys: str) -> list[dict[str, Any]]:
    """Finished rows with the same ``keys`` as one: these keys, ``n``, ``mean``, ``spread`` and the
    ``accuracies`` by ``seeds``;
    accuracy of the cohort, and cost, mean over the seeds."""
    found: dict[tuple, list[dict]] = {}
    for row in sorted(rows, key=lambda row: row['seed']):
        if row.get('accuracy_top1') is not None:
            found.setdefault(tuple(repr(row[key]) for key in keys), []).append(row)
    result = []
    for members in found.values():
        accuracies = [row['accuracy_top1'] for row in members]
        costs = [row['cost'] for row in members]
        result.append(
            dict({key: members[0][key]
                  for key in keys}, **mean_and_spread(accuracies), accuracies=accuracies,
                 seeds=[row['seed'] for row in members],
                 cohort_accuracy_top1=members[0]['cohort_accuracy_top1'], cost={
                     name: mean(cost[name] for cost in costs)
                     for name in costs[0] if all(cost.get(name) is not None for cost in costs)
                 }))
    return result


@dataclass
class SweepResults:
    """
    Args:
        trials: rows of :func:`read_trials`.
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
        return sorted(groups([row for row in self.trials if row['kind'] == EPOCH], 'epoch'),
                      key=lambda row: row['epoch'])

    @property
    def alone(self) -> dict[str, Any] | None:
        """The student without a teacher."""
        found = groups([row for row in self.trials if row['kind'] == ALONE], 'kind')
        return found[0] if found else None

    @property
    def ensembles(self) -> list[dict[str, Any]]:
        """One row a kind and size."""
        found = groups([row for row in self.trials if row['kind'] not in (ALONE, EPOCH)], 'kind', 'k')
        return sorted(found, key=lambda row: (row['kind'], row['k']))

    def table(self) -> str:
        lines = [f'{"who teaches":<20} {"their top-1 %":>13} {"student top-1 %":>16} {"spread":>7} '
                 f'{"seeds":>6} {"epochs":>7} {"hours":>7}']
        rows = [('nobody', self.alone)] if self.alone else []
        rows += [(f'epoch {row["epoch"]}', row) for row in self.epochs]
        rows += [(f'{row["kind"]}, k={row["k"]}', row) for row in self.ensembles]
        for name, row in rows:
            cost = row['cost']
            lines.append(f'{name:<20} {shown(row["cohort_accuracy_top1"]):>13} {shown(row["mean"]):>16} '
                         f'{shown(row["spread"]):>7} '
                         f'{row["n"]:>6} {shown(cost.get("total_epochs"), "g"):>7} '
                         f'{shown(cost.get("total_hours"), ".3g"):>7}')
        return '\n'.join(lines)

    def save(self, path: Path) -> None:
        write_json(
            path, dict(epochs=self.epochs, alone=self.alone, ensembles=self.ensembles, trials=self.trials,
                 trajectory=self.trajectory, config_text=self.config_text))


def shown(value: float | None, form: str = '.2f') -> str:
    """A number for a table."""
    return '-' if value is None else format(value, form)


def load_results(folder: Path) -> SweepResults:
    """
    Args:
        folder: a sweep's work_dir, or its results.json.

    Raises:
        CkdError: there are no results.
    """
    path = Path(folder)
    read = read_json(path if path.suffix == '.json' else path / RESULTS)
    return SweepResults(read['trials'], read['trajectory'], read['config_text'])


def write_results(results: SweepResults, work_dir: Path) -> list[Path]:
    """``results.json``, and the figures of what there is: ``sweep.png`` (epochs) and ``ensembles.png``
    (sizes)."""
    from ..report.sweep_figures import draw_ensembles, draw_sweep
    work_dir = Path(work_dir)
    results.save(work_dir / RESULTS)
    written = [work_dir / RESULTS]
    if results.epochs:
        written.append(work_dir / 'sweep.png')
        draw_sweep(results.epochs, results.alone, written[-1])
    if results.ensembles:
        written.append(work_dir / 'ensembles.png')
        draw_ensembles(results.ensembles, results.alone, written[-1])
    return written
