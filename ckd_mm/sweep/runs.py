"""Finished runs beside each other: mean and spread over the seeds of each method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, reading
from ..files import read_json
from ..record import differences, flatten, listed
from ..selection.comparison import markdown, mean_and_spread, plus_minus
from ..training import result_settings
from ..trajectory.configs import parse_config_text
from .pipeline_access import OWN_KEYS, SUMMARY

SEED = 'randomness.seed'
# name in a row, in summary.json, and in the table
NETWORKS = (('who_teaches', 'cohort', 'who teaches'), ('student', 'student', 'student'),
            ('peer', 'peer', 'peer'), ('student_alone', 'student_alone', 'student alone'))


def read_runs(folder: Path) -> dict[str, Any]:
    """One method: the runs in the folders below ``folder`` (or ``folder`` itself). Raises ConfigError if none
    is finished, two have one seed, or their configs differ in more than the seed.

    Returns:
        ``name`` (of the folder); ``seeds``; ``student``, ``student_alone``, ``who_teaches``, ``peer``: ``n``,
        ``mean``, ``spread`` and ``values``, top-1 accuracies in percent after the last epoch, in the order of
        the seeds; ``epochs``: training cost.
    """
    folder = Path(folder)
    files = [folder / SUMMARY] if (folder / SUMMARY).exists() else sorted(folder.glob(f'*/{SUMMARY}'))
    if not files:
        raise ConfigError(f'{folder} holds no finished run: neither {SUMMARY} nor */{SUMMARY} is there')
    runs: dict[int | None, tuple] = {}
    for file in files:
        summary = read_json(file)
        with reading(f'{file} is no summary of a run'):
            config = parse_config_text(summary['config']['text'], str(file))
            settings = flatten(result_settings(config, OWN_KEYS))
        seed = settings.pop(SEED, None)
        if seed in runs:
            raise ConfigError(f'{folder} holds two runs with {SEED}={seed}: they would count twice')
        runs[seed] = settings, summary, file.parent
    seeds = sorted(runs, key=lambda seed: (seed is None, seed))
    first, summary, where = runs[seeds[0]]
    for settings, _, other in runs.values():
        changed = differences(first, settings)
        if changed:
            raise ConfigError(f'{where} and {other} are not runs of one method: {listed(changed)}. Keep the '
                              'runs of each method in a folder of their own')
    found = dict(name=folder.name, seeds=seeds, epochs=(summary.get('cost') or {}).get('total_epochs'))
    for name, key, _ in NETWORKS:
        values = [runs[seed][1].get(key, {}).get('accuracy_top1') for seed in seeds]
        if None not in values:
            found[name] = dict(mean_and_spread(values), values=values)
    return found


def methods_table(methods: Sequence[dict[str, Any]]) -> str:
    """In Markdown, a row each."""
    there = [(name, title) for name, _, title in NETWORKS if any(name in method for method in methods)]
    rows = [(method['name'], len(method['seeds']),
             *(plus_minus(method[name]['mean'], method[name]['spread']) if name in method else ''
               for name, _ in there), '' if method['epochs'] is None else method['epochs'])
            for method in methods]
    return markdown(('method', 'runs', *(title for _, title in there), 'epochs trained'), *rows)
