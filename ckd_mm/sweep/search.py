"""Temperature and weights by the accuracy on held-out training images, for each teacher (Sec. 3.2 of
CheckpointKD)."""

import copy
import itertools
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from ..errors import ConfigError
from ..evaluation.evaluate import evaluation_parts
from ..files import plain, write_json
from ..infoplane.images import held_out_part
from ..infoplane.probe import Probe, held_out_record
from ..pipeline import DistillationPlan
from ..pipeline.settings import OWN_KEYS
from .lock import lock
from .results import groups, shown
from .shard import Shard
from .sweep import Sweep
from .trials import EPOCH, Trial

SEARCH, RESULT = 'search', 'search.json'
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
        if len(keys) > 1 and not all(
                isinstance(value, (list, tuple)) and len(value) == len(keys) for value in values):
            raise ConfigError(f'--search {joined}={values}: each value should be {len(keys)} values, one a '
                              'key, say '
                              f'"{joined}=[({", ".join("1" * len(keys))})]"')
        axes.append([dict(zip(keys, value if len(keys) > 1 else [value])) for value in values])
    return [{
        key: value
        for part in combination
        for key, value in part.items()
    } for combination in itertools.product(*axes)]


def held_out_probe(config: Config) -> Probe:
    """The images that choose: those that the config's probe holds out, or its default."""
    return Probe(config, **dict(config.get('probe') or {}, probe_split='held_out'))


def search_configs(config: Config, probe: Probe) -> tuple[Config, Config]:
    """The trials' config and the teacher's. The test set is in neither, and what chooses trains neither.

    Raises:
        ConfigError: no part of the training set can be held out.
    """
    if DistillationPlan(config).schedule.comparison is not None:
        raise ConfigError('a search chooses on held-out images, and StopWhenOvertakenHook compares on such '
                          'images: search without it, '
                          '--cfg-options distill.schedule=None')
    students, teacher = copy.deepcopy(config), copy.deepcopy(config)
    for name in ('val_dataloader', 'test_dataloader'):
        if students.get(name) is not None:
            students[name].dataset = ConfigDict(copy.deepcopy(probe.dataset))
    students.train_dataloader.dataset = ConfigDict(
        held_out_part(students.train_dataloader.dataset, probe.held_out, probe.seed, 'rest'))
    teacher.probe = ConfigDict(config.get('probe') or {}, probe_split='held_out')
    parts = evaluation_parts(students)
    if parts is None:
        raise ConfigError('a search compares accuracies: give a test_evaluator or val_evaluator')
    loader, evaluator = parts  # for the checks before its training
    teacher.test_dataloader, teacher.test_evaluator, teacher.test_cfg = copy.deepcopy(loader), copy.deepcopy(
        evaluator), dict()
    return students, teacher


def search_trials(settings: dict[str, Any], seeds: Sequence[int],
                  epochs: Sequence[int | None]) -> list[Trial]:
    return [
        Trial(EPOCH, seed, epoch=epoch, overrides=chosen) for seed in seeds for epoch in epochs
        for chosen in grid(settings)
    ]


def choose(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Trials as of :func:`ckd_mm.sweep.results.read_trials` to one row a teacher and setting, with ``best``
    True at the highest
    mean of each teacher, of equal ones at the first."""
    found = groups(rows, 'epoch', 'overrides')
    for row in found:
        rivals = [other for other in found if other['epoch'] == row['epoch']]
        row['best'] = row is max(rivals, key=lambda other: other['mean'])
    return found


def options(overrides: dict[str, Any]) -> str:
    """As ``--cfg-options`` takes them."""
    return '--cfg-options ' + ' '.join(f'{key}={str(value).replace(" ", "")}'
                                       for key, value in overrides.items())


def teacher_of(row: dict[str, Any]) -> str:
    return 'last' if row['epoch'] is None else f'epoch {row["epoch"]}'


def search_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f'{"teacher":<12} {"held-out top-1 %":>16} {"spread":>7} {"seeds":>6}  settings']
    for row in rows:
        teacher = teacher_of(row)
        settings = ' '.join(f'{key}={value}' for key, value in row['overrides'].items())
        lines.append(f'{teacher:<12} {shown(row["mean"]):>16} {shown(row["spread"]):>7} {row["n"]:>6}  '
                     f'{settings}'
                     f'{"  <- best" if row["best"] else ""}')
    return '\n'.join(lines)


class Search(Sweep):
    """
    Args:
        config: as of :class:`Sweep`.
        settings: as of :func:`grid`.
        seeds: of the students.
        epochs: of the teachers, None: the last; each gets settings of its own.
        shard: as of :class:`Sweep`.
    """

    def __init__(
        self, config: Config, settings: dict[str, Any], seeds: Sequence[int],
        epochs: Sequence[int | None] = (None, ), shard: Shard = Shard()) -> None:
        unknown = [
            key for joined in settings for key in joined.split('+')
            if key.split('.')[0] not in {*config, *OWN_KEYS}
        ]
        if unknown:  # it would change nothing, and all values would seem equal
            raise ConfigError(f'--search {unknown[0]}: the config has no {unknown[0].split(".")[0]!r}')
        self.probe = held_out_probe(config)
        students, teacher = search_configs(config, self.probe)
        super().__init__(students, search_trials(settings, seeds, epochs), shard, SEARCH, validate=False,
                         teacher_config=teacher)

    def check_earlier(self) -> None:
        """Only its own trials are compared."""

    def run(self) -> dict[str, str]:
        failed = super().run()
        wanted = plain(held_out_record(self.probe.held_out, self.probe.seed))
        if any(trajectory.info.get('held_out') != wanted for trajectory in self.teacher.trajectories()):
            self.log('Warning: the trajectory does not say that its teacher was trained without the '
                     'held-out images; the temperature '
                     'and weights that fit such a teacher need not fit on images it has not seen')
        return failed

    def collect(self) -> str:
        """``search/search.json`` of its trials; the best settings are named when all are finished."""
        trials = self.rows()
        rows, still = choose(trials), self.open_trials()
        best = [dict(row, cfg_options=options(row['overrides'])) for row in rows if row['best'] and not still]
        with lock(self.work_dir / 'results.lock', wait=True):
            write_json(
                self.folder / RESULT, dict(best=best, settings=rows, trials=trials, images=self.probe.dataset,
                     held_out=held_out_record(self.probe.held_out, self.probe.seed)))
        return '\n'.join([
            search_table(rows), *still, *(f'best for {teacher_of(row)}: {row["cfg_options"]}'
                                          for row in best), f'Written: {self.folder / RESULT}'
        ])
