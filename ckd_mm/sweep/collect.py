"""What has come out of a sweep so far."""

from pathlib import Path
from typing import Any

from ..files import read_json
from .configs import is_finished
from .pipeline_access import SUMMARY
from .results import SweepResults
from .search import search_lines
from .sweep import INFO, TRIALS
from .trials import ALONE, Trial


def collect(work_dir: Path) -> str:
    """Write down what is finished: ``results.json``, ``sweep.png``, ``ensembles.png``; of a search
    ``search.json``.

    Returns:
        Tables, unfinished trials and files, for a person.

    Raises:
        CkdError: there is no sweep.
    """
    work_dir = Path(work_dir)
    info = read_json(work_dir / INFO)
    rows = [_row(work_dir / TRIALS / Trial(**trial).name, trial) for trial in info['trials']]
    names = [row['name'] for row in rows if row['status'] != 'finished']
    still = [f'{len(names)} of {len(rows)} trials are not finished: {", ".join(names)}'] if names else []
    if info['search']:
        return '\n'.join([*search_lines(rows, info, work_dir), *still])
    results = SweepResults(rows, info['trajectory'], info['config_text'])
    return '\n'.join([results.table(), *still, 'Written: ' + ', '.join(map(str, results.write(work_dir)))])


def _row(folder: Path, trial: dict[str, Any]) -> dict[str, Any]:
    """What a trial is, its ``status`` ('finished' or 'unfinished') and, of finished ones, top-1 accuracies
    after the last epoch in percent, cost and seconds."""
    if not is_finished(folder):
        return dict(trial, name=folder.name, status='unfinished')
    summary = read_json(folder / SUMMARY)
    cost = summary.get('cost') or {}
    row = dict(trial, name=folder.name, status='finished', accuracy_top1=summary['student']['accuracy_top1'],
               cohort_accuracy_top1=summary['cohort']['accuracy_top1'], cost=cost,
               teacher_epochs=summary['selection']['epochs'], seconds=sum(summary['seconds'].values()))
    if trial['kind'] == ALONE:  # its run names a teacher, but nobody taught
        row.update(cohort_accuracy_top1=None, teacher_epochs=[])
        cost.update(teacher_epochs=0, teacher_hours=0.0, total_epochs=cost.get('student_epochs'),
                    total_hours=cost.get('student_hours'))
    return row
