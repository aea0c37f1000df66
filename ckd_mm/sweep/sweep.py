"""Many students of one teacher: by its epoch (Fig. 2 of CheckpointKD), or by ensemble (Fig. 3)."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..counting import EXAMPLES, ITER, unit_of
from ..errors import CkdError, ConfigError
from ..files import atomic_write, read_json, write_json
from ..record import listed, read_as
from ..selection import build_selector
from ..training import require_trainable, unscaled_batch
from ..trajectory import Trajectory
from .pipeline_access import (
    changed_settings,
    config_file,
    is_finished,
    open_stage,
    selected,
    stage_states,
    write_config,
)
from .teachers import plan_teachers
from .trials import ALONE, EPOCH, Trial

TRIALS, INFO = 'trials', 'sweep.json'


@dataclass(frozen=True)
class Plan:
    """What ``sweep.json`` holds."""
    trials: list[dict]  # see Trial
    trajectory: list[str]  # folders
    search: Any  # settings of a search; None: a sweep
    config_text: str


def check_batch(config: Config) -> None:
    """Raises ConfigError if the learning rate is for another number of images a step than of one process, or
    the trainings count iterations: trials name teachers by their epochs."""
    require_trainable('', config)
    if unit_of(config.train_cfg) == ITER:
        raise ConfigError('train_cfg counts iterations, and a sweep names teachers by their epochs: give '
                          f'train_cfg=dict(_delete_=True, {EXAMPLES["epoch"]})')
    found = unscaled_batch(config, 1)
    if found is not None:
        raise ConfigError(f'each training is one process, {found[0]} images a step, and the learning rate is '
                          f'for {found[1]} (auto_scale_lr.base_batch_size): add --auto-scale-lr, which suits '
                          f'any number, or --cfg-options train_dataloader.batch_size={found[1]}')


def plan_trials(seeds: Sequence[int], epochs: Sequence[int] = (), ensembles: Sequence[str] = (),
                sizes: Sequence[int] = (), alone: bool = True) -> list[Trial]:
    """Seed after seed, so that a figure can be drawn early."""
    found = []
    for seed in seeds:
        found += [Trial(ALONE, seed)] if alone else []
        found += [Trial(EPOCH, seed, epoch=epoch) for epoch in epochs]
        found += [Trial(kind, seed, k=k) for kind in ensembles for k in sizes]
    return found


def read_plan(work_dir: Path) -> Plan:
    """Raises CkdError where the file is missing or damaged."""
    path = work_dir / INFO
    try:
        plan = read_as(Plan, 'the plan', read_json(path))
        for index, trial in enumerate(plan.trials):
            read_as(Trial, f'trials[{index}]', trial)
    except ConfigError as error:
        raise CkdError(f'{path} is damaged: {error}') from error
    return plan


class Sweep:
    """Configs and commands of many trainings; nothing is written before :meth:`write`. Raises ConfigError if
    a trial cannot work, or has begun with other settings.

    Args:
        config: that all trials share, with its ``work_dir``.
        trials: to add to those that are written there already.
        teacher_config: of the teachers' trainings, where it is another.
        search: the ``images`` that choose settings, and which are ``held_out``; None: no search.
    """

    def __init__(self, config: Config, trials: Sequence[Trial], teacher_config: Config | None = None,
                 search: dict[str, Any] | None = None) -> None:
        check_batch(config)
        self.config, self.search, self.work_dir = config, search, Path(config.work_dir)
        names = [trial.name for trial in trials]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise ConfigError(f'trial {repeated} is listed twice; name epochs, seeds, sizes and values once')
        # what is drawn together should share its settings
        self.trials = [*trials, *(trial for trial in self._earlier() if trial.name not in names)]
        several = next((trial for trial in self.trials if (trial.k or 1) > 1), None)
        if config.get('heads') is not None and several is not None:
            raise ConfigError(f'trial {several.name}: heads are mounted on one snapshot, and {several.k} '
                              'teach; leave --ensembles out, or the heads, --cfg-options heads=None')
        selectors = [build_selector(trial.selector) for trial in self.trials]
        self.teachers = plan_teachers(teacher_config or config, selectors)
        folders = self.teachers.folders
        self.configs = [trial.config(config, self.work_dir / TRIALS / trial.name, folders[:selector.runs])
                        for trial, selector in zip(self.trials, selectors)]
        for student in self.configs:
            _check_student(student, self.teachers.trajectories)

    def _earlier(self) -> list[Trial]:
        if not (self.work_dir / INFO).exists():
            return []
        plan = read_plan(self.work_dir)
        if bool(plan.search) != bool(self.search):
            kind = 'search' if plan.search else 'sweep'
            raise ConfigError(f'{self.work_dir} belongs to a {kind}; choose another --work-dir (--trajectory '
                              'reuses a teacher)')
        trials = [Trial(**row) for row in plan.trials]
        return [trial for trial in trials if (self.work_dir / TRIALS / trial.name).exists()]

    def write(self, train: Sequence[str]) -> dict[Path, list[str]]:
        """Write a config for each training, and a command, which begins with ``train``, for each that is not
        finished; returns ``teachers.txt`` and ``students.txt`` with the commands in them."""
        write_json(self.work_dir / INFO, asdict(Plan(
            trials=list(map(asdict, self.trials)), trajectory=list(map(str, self.teachers.folders)),
            search=self.search, config_text=self.config.pretty_text)))
        students = [config for config in self.configs if not is_finished(Path(config.work_dir))]
        lists = {}
        for name, todo, options in (('teachers.txt', self.teachers.todo, ['--until', 'teacher']),
                                    ('students.txt', students, [])):
            for config in todo:
                write_config(config)
            lines = [shlex.join([*train, str(config_file(config)), *options, '--resume']) for config in todo]
            atomic_write(self.work_dir / name, ''.join(f'{line}\n' for line in lines).encode())
            lists[self.work_dir / name] = lines
        return lists


def _check_student(config: Config, trajectories: Sequence[Trajectory]) -> None:
    folder, changed = Path(config.work_dir), changed_settings(config)
    finished = is_finished(folder)
    if changed and stage_states(folder):
        raise ConfigError(f'trial {folder.name} was {"finished" if finished else "begun"} with other '
                          f'settings: {listed(changed)}. Restore them, choose another --work-dir, or remove '
                          f'{folder}')
    if changed:
        try:
            open_stage(config)
        except ConfigError as error:
            raise ConfigError(f'trial {folder.name}: {error}') from error
    if finished and trajectories:
        now = {(snapshot.time, snapshot.sha256) for trajectory in trajectories for snapshot in trajectory}
        for member in selected(folder):
            if now.isdisjoint({(member['epoch'], member['sha256']), (member['epoch'], None)}):
                raise ConfigError(f'trial {folder.name} is finished, but its teacher of epoch '
                                  f'{member["epoch"]} was another than the trajectory holds now. Restore the '
                                  f'trajectory, choose another --work-dir, or remove {folder}')
