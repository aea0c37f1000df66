"""What has come out of a sweep, or a search, so far: mean and spread over seeds."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from ..errors import reading
from ..files import read_json, write_json
from ..report.sweep_figures import draw_ensembles, draw_sweep
from ..selection.comparison import mean_and_spread
from .pipeline_access import SUMMARY, is_finished
from .sweep import TRIALS, Plan, read_plan
from .trials import ALONE, EPOCH, Trial

RESULTS = 'results.json'
Rows = list[dict[str, Any]]


def collect(work_dir: Path) -> str:
    """Write what is finished: ``results.json``, ``sweep.png``, ``ensembles.png``; of a search
    ``search.json``. Returns the same for a person; raises CkdError if there is no sweep."""
    work_dir = Path(work_dir)
    plan = read_plan(work_dir)
    trials = [_row(work_dir / TRIALS / Trial(**trial).name, trial) for trial in plan.trials]
    unfinished = [trial['name'] for trial in trials if trial['status'] != 'finished']
    if plan.search:
        text, written = _search_results(trials, plan.search, work_dir)
    else:
        text, written = _sweep_results(trials, plan, work_dir)
    if unfinished:
        text += f'\n{len(unfinished)} of {len(trials)} trials are not finished: {", ".join(unfinished)}'
    return f'{text}\nWritten: {", ".join(map(str, written))}'


def _row(folder: Path, trial: dict[str, Any]) -> dict[str, Any]:
    """What a trial is, its ``status`` ('finished' or 'unfinished') and, of finished ones, top-1 accuracies
    after the last epoch in percent, cost and seconds."""
    if not is_finished(folder):
        return dict(trial, name=folder.name, status='unfinished')
    summary = read_json(folder / SUMMARY)
    with reading(f'{folder / SUMMARY} is damaged'):
        cost = summary.get('cost') or {}
        row = dict(trial, name=folder.name, status='finished', cost=cost,
                   accuracy_top1=summary['student']['accuracy_top1'],
                   cohort_accuracy_top1=summary['cohort']['accuracy_top1'],
                   teacher_epochs=summary['selection']['epochs'], seconds=sum(summary['seconds'].values()))
    if trial['kind'] == ALONE:  # its run names a teacher and does not use it
        row.update(cohort_accuracy_top1=None, teacher_epochs=[])
        cost.update(teacher_epochs=0, teacher_hours=0.0, total_epochs=cost.get('student_epochs'),
                    total_hours=cost.get('student_hours'))
    return row


def over_seeds(trials: Sequence[dict], *keys: str) -> Rows:
    """Finished trials with the same ``keys`` as one row: these keys, ``n``, ``mean``, ``spread`` and
    ``accuracies`` by ``seeds``; accuracy of the cohort, and cost, mean over the seeds."""
    groups: dict[str, Rows] = {}
    for trial in sorted(trials, key=lambda trial: trial['seed']):
        if trial.get('accuracy_top1') is not None:
            groups.setdefault(repr([trial[key] for key in keys]), []).append(trial)
    rows = []
    for group in groups.values():
        accuracies, costs = [trial['accuracy_top1'] for trial in group], [trial['cost'] for trial in group]
        known = [name for name in costs[0] if all(cost.get(name) is not None for cost in costs)]
        rows.append(dict({key: group[0][key] for key in keys}, **mean_and_spread(accuracies),
                         accuracies=accuracies, seeds=[trial['seed'] for trial in group],
                         cohort_accuracy_top1=group[0]['cohort_accuracy_top1'],
                         cost={name: mean(cost[name] for cost in costs) for name in known}))
    return rows


def summarise(trials: Rows) -> dict[str, Any]:
    """Rows of :func:`over_seeds`: ``epochs``, one a teacher epoch; ``alone``, the student without a teacher,
    or None; ``ensembles``, one a kind and size."""
    epochs = over_seeds([trial for trial in trials if trial['kind'] == EPOCH], 'epoch')
    alone = over_seeds([trial for trial in trials if trial['kind'] == ALONE], 'kind')
    ensembles = over_seeds([trial for trial in trials if trial['kind'] not in (ALONE, EPOCH)], 'kind', 'k')
    return dict(epochs=sorted(epochs, key=lambda row: row['epoch']), alone=alone[0] if alone else None,
                ensembles=sorted(ensembles, key=lambda row: (row['kind'], row['k'])))


def sweep_table(found: dict[str, Any]) -> str:
    """Of :func:`summarise`."""
    rows = [('none', found['alone'])] if found['alone'] else []
    rows += [(f'epoch {row["epoch"]}', row) for row in found['epochs']]
    rows += [(f'{row["kind"]}, k={row["k"]}', row) for row in found['ensembles']]
    lines = [('teacher', 'its top-1 %', 'student top-1 %', 'spread', 'seeds', 'epochs', 'hours')]
    lines += [(name, *(_shown(row[key]) for key in ('cohort_accuracy_top1', 'mean', 'spread')), row['n'],
               _shown(row['cost'].get('total_epochs'), 'g'), _shown(row['cost'].get('total_hours'), '.3g'))
              for name, row in rows]
    return '\n'.join('{:<20} {:>13} {:>16} {:>7} {:>6} {:>7} {:>7}'.format(*line) for line in lines)


def _sweep_results(trials: Rows, plan: Plan, work_dir: Path) -> tuple[str, list[Path]]:
    found, written = summarise(trials), [work_dir / RESULTS]
    write_json(work_dir / RESULTS, dict(trials=trials, trajectory=plan.trajectory,
                                        config_text=plan.config_text, **found))
    for name, draw, rows in (('sweep.png', draw_sweep, found['epochs']),
                             ('ensembles.png', draw_ensembles, found['ensembles'])):
        if rows:
            written.append(work_dir / name)
            draw(rows, found['alone'], written[-1])
    return sweep_table(found), written


def choose(trials: Rows) -> Rows:
    """One row a teacher and setting, with ``best`` True at the highest mean of each teacher, of equal ones at
    the first."""
    rows = over_seeds(trials, 'epoch', 'overrides')
    for row in rows:
        rivals = [other for other in rows if other['epoch'] == row['epoch']]
        row['best'] = row is max(rivals, key=lambda other: other['mean'])
    return rows


def _search_results(trials: Rows, search: dict[str, Any], work_dir: Path) -> tuple[str, list[Path]]:
    """The best settings are named when all trials are finished, as ``--cfg-options`` takes them."""
    rows, best, path = choose(trials), [], work_dir / 'search.json'
    lines = [f'{"teacher":<12} {"held-out top-1 %":>16} {"spread":>7} {"seeds":>6}  settings']
    for row in rows:
        row['teacher'] = 'last' if row['epoch'] is None else f'epoch {row["epoch"]}'
        settings = ' '.join(f'{key}={str(value).replace(" ", "")}' for key, value in row['overrides'].items())
        lines.append(f'{row["teacher"]:<12} {_shown(row["mean"]):>16} {_shown(row["spread"]):>7} '
                     f'{row["n"]:>6}  {settings}{"  <- best" if row["best"] else ""}')
        if row['best'] and all(trial['status'] == 'finished' for trial in trials):
            best.append(dict(row, cfg_options=f'--cfg-options {settings}'))
    write_json(path, dict(search, best=best, settings=rows, trials=trials))
    return '\n'.join(lines + [f'best for {row["teacher"]}: {row["cfg_options"]}' for row in best]), [path]


def _shown(value: float | None, form: str = '.2f') -> str:
    return '-' if value is None else format(value, form)
