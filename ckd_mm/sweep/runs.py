"""Finished runs beside each other: mean and spread over the seeds of each method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import read_json
from ..pipeline.checkpoint_distill_runner import SUMMARY
from ..record import differences, flatten, listed
from ..trajectory.configs import parse_config_text
from .results import mean_and_spread

SEED = 'randomness.seed'


def read_runs(folder: Path) -> dict[str, Any]:
    """One method: the runs in the folders below ``folder`` (or ``folder`` itself, a single run), which differ
    in their seeds.

    Returns:
        ``name`` (of the folder); ``seeds``; ``student``, ``student_alone``, ``who_teaches``, ``peer``: ``n``,
        ``mean``, ``spread`` and ``values``, top-1 accuracies in percent after the last epoch, in the order of
        the seeds; ``epochs``: training cost.

    Raises:
        ConfigError: there is no finished run, two have the same seed, or their configs differ in more than
            the seed.
    """
    folder = Path(folder)
    files = [folder / SUMMARY] if (folder / SUMMARY).exists() else sorted(folder.glob(f'*/{SUMMARY}'))
    if not files:
        raise ConfigError(f'{folder} holds no finished run: neither {SUMMARY} nor */{SUMMARY} is there')
    runs = sorted(((_settings(file), read_json(file), file.parent) for file in files),
                  key=lambda run: (run[0].get(SEED) is None, run[0].get(SEED) or 0))
    first, _, where = runs[0]
    for settings, _, other in runs[1:]:
        changed = [line for line in differences(first, settings) if not line.startswith(f'{SEED} ')]
        if changed:
            raise ConfigError(f'{where} and {other} are not runs of one method: {listed(changed)}. Keep the '
                              'runs of each '
                              'method in a folder of their own')
    seeds = [settings.get(SEED) for settings, _, _ in runs]
    twice = [seed for index, seed in enumerate(seeds) if seed in seeds[:index]]
    if twice:
        raise ConfigError(f'{folder} holds two runs with randomness.seed={twice[0]}: they would count twice')
    summaries = [summary for _, summary, _ in runs]
    found = dict(name=folder.name, seeds=seeds, epochs=(summaries[0].get('cost') or {}).get('total_epochs'))
    for name, key in (('student', 'student'), ('student_alone', 'student_alone'), ('who_teaches', 'cohort'),
                      ('peer', 'peer')):
        values = [summary[key]['accuracy_top1'] for summary in summaries if key in summary]
        if values and None not in values:
            found[name] = dict(mean_and_spread(values), values=values)
    return found


def _settings(file: Path) -> dict[str, Any]:
    return flatten(parse_config_text(read_json(file)['config']['text'], str(file)))


def methods_table(methods: Sequence[dict[str, Any]]) -> str:
    """In Markdown, a row each."""
    columns = [('who_teaches', 'who teaches'), ('student', 'student'), ('peer', 'peer'),
               ('student_alone', 'student alone')]
    shown = [(key, title) for key, title in columns if any(key in method for method in methods)]
    lines = ['| method | runs | ' + ' | '.join(title for _, title in shown) + ' | epochs trained |',
             '|---|---|' + '---|' * (len(shown) + 1)]
    for method in methods:
        cells: list[str] = [
            method['name'], str(len(method['seeds'])), *(_cell(method.get(key)) for key, _ in shown),
            '' if method['epochs'] is None else str(method['epochs'])
        ]
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def _cell(found: Any) -> str:
    if found is None:
        return ''
    return f'{found["mean"]:.2f}' + ('' if found['spread'] is None else f' ± {found["spread"]:.2f}')
