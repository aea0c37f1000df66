"""Temperature and weights by the accuracy on held-out images, for each teacher (CheckpointKD, Sec. 3.2)."""

import copy
import itertools
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from ..errors import ConfigError
from ..evaluation.evaluate import evaluation_parts
from ..files import plain
from ..infoplane.probe import Probe
from ..training import exclude_held_out
from .pipeline_access import OWN_KEYS
from .sweep import Sweep
from .trials import EPOCH, Trial, comparing_schedules

NOT_THE_STUDENTS = ('teacher', 'selector', 'probe', 'randomness', 'student_alone', 'work_dir',
                    'val_dataloader', 'test_dataloader')


def grid(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the listed values, the first key's changing slowest. Raises ConfigError if a key
    has no values, too few of them, or is not the student's.

    Args:
        settings: dotted keys to a value, or a list of values. Keys joined by ``+`` change together, each
            value being one of each: ``{'distill.ce_weight+distill.kd_weight': [(0.1, 0.9), (0.5, 0.5)]}``.
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
        if len(keys) == 1:
            values = [[value] for value in values]
        elif any(not isinstance(value, (list, tuple)) or len(value) != len(keys) for value in values):
            raise ConfigError(f'--search {joined}={values}: each value should be {len(keys)} values, one a '
                              f'key, say "{joined}=[({", ".join("1" * len(keys))})]"')
        axes.append([dict(zip(keys, value)) for value in values])
    return [plain({key: value for part in parts for key, value in part.items()})
            for parts in itertools.product(*axes)]


def make_search(config: Config, settings: dict[str, Any], seeds: Sequence[int],
                epochs: Sequence[int | None] = (None, )) -> Sweep:
    """A sweep over the ``settings`` of :func:`grid`, for the teacher of each of the ``epochs`` (None: the
    last). The images that choose are those that ``probe`` of the config holds out. Raises ConfigError as
    :class:`Sweep`, and if the config lacks one of the settings."""
    for key in (key for joined in settings for key in joined.split('+')):
        if key.split('.')[0] not in {*config, *OWN_KEYS}:  # all values would seem equally good
            raise ConfigError(f'--search {key}: the config has no {key.split(".")[0]!r}')
    if comparing_schedules(config):
        raise ConfigError('a search chooses on held-out images, and StopWhenOvertakenHook compares on such '
                          'images: search without it, --cfg-options distill.schedule=None')
    probe = Probe(config, **dict(config.get('probe') or {}, probe_split='held_out'))
    trials = [Trial(EPOCH, seed, epoch=epoch, overrides=chosen) for seed in seeds for epoch in epochs
              for chosen in grid(settings)]
    students, teacher = _search_configs(config, probe)
    sweep = Sweep(students, trials, teacher,
                  search=dict(images=probe.dataset, held_out=probe.held_out_record))
    if any(map(probe.was_seen, sweep.teachers.trajectories)):
        print('Warning: the trajectory does not say that its teacher was trained without the held-out '
              'images; what fits such a teacher need not fit on images it has not seen')
    return sweep


def _search_configs(config: Config, probe: Probe) -> tuple[Config, Config]:
    """Of trials and teacher. The test set is in neither, and the images that choose train neither."""
    students, teacher = exclude_held_out(copy.deepcopy(config), probe), copy.deepcopy(config)
    for name in ('val_dataloader', 'test_dataloader'):
        if students.get(name) is not None:
            students[name].dataset = ConfigDict(copy.deepcopy(probe.dataset))
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
