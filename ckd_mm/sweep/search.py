"""Temperature and weights by the accuracy on held-out images, for each teacher (CheckpointKD, Sec. 3.2)."""

import copy
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ..errors import ConfigError
from ..evaluation.evaluate import evaluation_parts
from ..files import plain, write_json
from ..infoplane.images import held_out_part
from ..infoplane.probe import Probe, held_out_record
from .pipeline_access import OWN_KEYS
from .results import groups, shown
from .sweep import Sweep
from .trials import EPOCH, Trial, comparing_schedules

NOT_THE_STUDENTS = ('teacher', 'selector', 'probe', 'randomness', 'student_alone', 'work_dir',
                    'val_dataloader', 'test_dataloader')


def grid(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the listed values, the first key's changing slowest.

    Args:
        settings: dotted keys to a value, or a list of values. Keys joined by ``+`` change together, each
            value being one of each: ``{'distill.ce_weight+distill.kd_weight': [(0.1, 0.9), (0.5, 0.5)]}``.

    Raises:
        ConfigError: a key has no values, too few of them, or is not the student's.
    """
    axes = []
    for joined, values in settings.items():
        keys = joined.split('+')
        values = list(values) if isinstance(values, (list, tuple)) else [values]
        for key in keys:
            if key.split('.')[0] in NOT_THE_STUDENTS:
                raise ConfigError(f'--search {key}: a search chooses settings of the student, say '
                                  f'distill.tau; the sweep itself sets {key}')
        if not values:
            raise ConfigError(f'--search {joined}= names no values; give some, say {joined}=1,2,4')
        if len(keys) > 1 and any(not isinstance(value, (list, tuple)) or len(value) != len(keys)
                                 for value in values):
            raise ConfigError(f'--search {joined}={values}: each value should be {len(keys)} values, one a '
                              f'key, say "{joined}=[({", ".join("1" * len(keys))})]"')
        axes.append([dict(zip(keys, value if len(keys) > 1 else [value])) for value in values])
    return [plain(dict(pair for part in parts for pair in part.items()))
            for parts in itertools.product(*axes)]


def make_search(config: Config, settings: dict[str, Any], seeds: Sequence[int],
                epochs: Sequence[int | None] = (None, )) -> Sweep:
    """
    Args:
        config: as of :class:`Sweep`. The images that choose are those that its ``probe`` holds out.
        settings: as of :func:`grid`.
        seeds: of the students.
        epochs: of the teachers, None: the last; each gets settings of its own.

    Raises:
        ConfigError: as of :class:`Sweep`, or the config has not the settings, or nothing to choose by.
    """
    for key in (key for joined in settings for key in joined.split('+')):
        if key.split('.')[0] not in {*config, *OWN_KEYS}:  # all values would seem equally good
            raise ConfigError(f'--search {key}: the config has no {key.split(".")[0]!r}')
    if comparing_schedules(config):
        raise ConfigError('a search chooses on held-out images, and StopWhenOvertakenHook compares on such '
                          'images: search without it, --cfg-options distill.schedule=None')
    probe = Probe(config, **dict(config.get('probe') or {}, probe_split='held_out'))
    trials = [Trial(EPOCH, seed, epoch=epoch, overrides=chosen) for seed in seeds for epoch in epochs
              for chosen in grid(settings)]
    held_out = held_out_record(probe.held_out, probe.seed)
    students, teacher = _search_configs(config, probe)
    sweep = Sweep(students, trials, teacher, search=dict(images=probe.dataset, held_out=held_out))
    if any(trajectory.info.get('held_out') != held_out for trajectory in sweep.teachers.given):
        print('Warning: the trajectory does not say that its teacher was trained without the held-out '
              'images; the temperature and weights that fit such a teacher need not fit on images it has not '
              'seen')
    return sweep


def _search_configs(config: Config, probe: Probe) -> tuple[Config, Config]:
    """Of trials and teacher. The test set is in neither, and the images that choose train neither."""
    students, teacher = copy.deepcopy(config), copy.deepcopy(config)
    for name in ('val_dataloader', 'test_dataloader'):
        if students.get(name) is not None:
            students[name].dataset = ConfigDict(copy.deepcopy(probe.dataset))
    students.train_dataloader.dataset = ConfigDict(
        held_out_part(students.train_dataloader.dataset, probe.held_out, probe.seed, 'rest'))
    parts = evaluation_parts(students)
    if parts is None:
        raise ConfigError('a search compares accuracies: give a test_evaluator or val_evaluator')
    teacher.probe = ConfigDict(config.get('probe') or {}, probe_split='held_out')
    for part in (teacher, teacher.teacher):
        for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
            part.pop(key, None)
    # for the checks before its training
    teacher.test_dataloader, teacher.test_evaluator, teacher.test_cfg = *copy.deepcopy(parts), dict()
    return students, teacher


def choose(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Trials to one row a teacher and setting, with ``best`` True at the highest mean of each teacher, of
    equal ones at the first."""
    found = groups(rows, 'epoch', 'overrides')
    for row in found:
        rivals = [other for other in found if other['epoch'] == row['epoch']]
        row['best'] = row is max(rivals, key=lambda other: other['mean'])
    return found


def search_lines(trials: list[dict[str, Any]], info: dict[str, Any], work_dir: Path) -> list[str]:
    """Write ``search.json``, which names the best settings when all trials are finished.

    Returns:
        A table, and the best settings as ``--cfg-options`` takes them.
    """
    rows, done = choose(trials), all(row['status'] == 'finished' for row in trials)
    lines, best = [f'{"teacher":<12} {"held-out top-1 %":>16} {"spread":>7} {"seeds":>6}  settings'], []
    for row in rows:
        row['teacher'] = 'last' if row['epoch'] is None else f'epoch {row["epoch"]}'
        settings = [f'{key}={str(value).replace(" ", "")}' for key, value in row['overrides'].items()]
        lines.append(f'{row["teacher"]:<12} {shown(row["mean"]):>16} {shown(row["spread"]):>7} {row["n"]:>6} '
                     f' {" ".join(settings)}{"  <- best" if row["best"] else ""}')
        if row['best'] and done:
            best.append(dict(row, cfg_options=' '.join(['--cfg-options', *settings])))
    write_json(work_dir / 'search.json', dict(info['search'], best=best, settings=rows, trials=trials))
    lines += [f'best for {row["teacher"]}: {row["cfg_options"]}' for row in best]
    return [*lines, f'Written: {work_dir / "search.json"}']
