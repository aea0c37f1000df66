"""Many students of one teacher: by its epoch (Fig. 2 of CheckpointKD), or by ensemble (Fig. 3)."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..errors import ConfigError
from ..files import atomic_write, read_json, write_json
from ..record import listed
from ..selection import build_selector
from ..trajectory import Trajectory
from .configs import changes, config_file, is_finished, write_config
from .pipeline_access import SELECTION, check_settings, stage_states
from .teachers import Teachers
from .trials import ALONE, EPOCH, Trial

TRIALS, INFO = 'trials', 'sweep.json'


def check_batch(config: Config) -> None:
    """
    Raises:
        ConfigError: the learning rate is for another number of images a step than one process sees.
    """
    scaling, images = config.get('auto_scale_lr') or {}, config.train_dataloader.get('batch_size')
    wanted, steps = scaling.get('base_batch_size'), config.optim_wrapper.get('accumulative_counts', 1)
    if None not in (wanted, images) and images * steps != wanted and not scaling.get('enable'):
        raise ConfigError(f'each training is one process, {images * steps} images a step, and the learning '
                          f'rate is for {wanted} (auto_scale_lr.base_batch_size): add --auto-scale-lr, which '
                          f'suits any number, or --cfg-options train_dataloader.batch_size={wanted}')


def plan_trials(seeds: Sequence[int], epochs: Sequence[int] = (), ensembles: Sequence[str] = (),
                sizes: Sequence[int] = (), alone: bool = True) -> list[Trial]:
    """Seed after seed, so that a figure can be drawn early."""
    found = []
    for seed in seeds:
        found += [Trial(ALONE, seed)] if alone else []
        found += [Trial(EPOCH, seed, epoch=epoch) for epoch in epochs]
        found += [Trial(kind, seed, k=k) for kind in ensembles for k in sizes]
    return found


class Sweep:
    """Configs and commands of many trainings. It trains nothing, and writes nothing before :meth:`write`.

    Args:
        config: that all trials share, with its ``work_dir``.
        trials: to add to those that are written there already.
        teacher_config: of the teachers' trainings, where it is another.
        search: the ``images`` that choose settings, and which are ``held_out``; None: no search.

    Raises:
        ConfigError: a trial cannot work, or has begun with other settings.
    """

    def __init__(self, config: Config, trials: Sequence[Trial], teacher_config: Config | None = None,
                 search: dict[str, Any] | None = None) -> None:
        check_batch(config)
        self.config, self.search, self.work_dir = config, search, Path(config.work_dir)
        names = [trial.name for trial in trials]
        # what is drawn together should share its settings
        self.trials = [*trials, *(trial for trial in self._earlier() if trial.name not in names)]
        self._check_trials(names)
        selectors = [build_selector(trial.selector) for trial in self.trials]
        self.teachers = Teachers(teacher_config or config, selectors)
        folders, trajectories = self.teachers.folders, self.teachers.trajectories()
        self.configs = [trial.config(config, self.work_dir / TRIALS / trial.name, folders[:selector.runs])
                        for trial, selector in zip(self.trials, selectors)]
        for student in self.configs:
            _check_student(student, trajectories)

    def _earlier(self) -> list[Trial]:
        if not (self.work_dir / INFO).exists():
            return []
        info = read_json(self.work_dir / INFO)
        if bool(info['search']) != bool(self.search):
            kind = 'search' if info['search'] else 'sweep'
            raise ConfigError(f'{self.work_dir} belongs to a {kind}; choose another --work-dir (--trajectory '
                              'reuses a teacher)')
        trials = [Trial(**row) for row in info['trials']]
        return [trial for trial in trials if (self.work_dir / TRIALS / trial.name).exists()]

    def _check_trials(self, names: list[str]) -> None:
        twice = [name for index, name in enumerate(names) if name in names[:index]]
        if twice:
            raise ConfigError(f'trial {twice[0]} is asked for twice; name every epoch, seed, size and value '
                              'once')
        several = next((trial for trial in self.trials if (trial.k or 1) > 1), None)
        if self.config.get('heads') is not None and several is not None:
            raise ConfigError(f'trial {several.name}: heads are mounted on one snapshot, and {several.k} '
                              'teach; leave --ensembles out, or the heads, --cfg-options heads=None')

    @property
    def todo(self) -> list[Config]:
        """Of the students that are not finished."""
        return [config for config in self.configs if not is_finished(Path(config.work_dir))]

    def write(self, train: Sequence[str]) -> dict[Path, list[str]]:
        """Write a config for each training, and a command for each that is not finished.

        Args:
            train: the command before the config file, say ``('python', 'tools/train.py')``.

        Returns:
            ``teachers.txt`` and ``students.txt``, and the commands in them.
        """
        write_json(self.work_dir / INFO, dict(
            trials=[asdict(trial) for trial in self.trials], trajectory=list(map(str, self.teachers.folders)),
            search=self.search, config_text=self.config.pretty_text))
        lists = {}
        for name, configs, options in (('teachers.txt', self.teachers.todo, ['--until', 'teacher']),
                                       ('students.txt', self.todo, [])):
            for config in configs:
                write_config(config)
            lines = [shlex.join([*train, str(config_file(item)), *options, '--resume']) for item in configs]
            atomic_write(self.work_dir / name, ''.join(f'{line}\n' for line in lines).encode())
            lists[self.work_dir / name] = lines
        return lists


def _check_student(config: Config, trajectories: Sequence[Trajectory]) -> None:
    folder, changed = Path(config.work_dir), changes(config)
    if changed and stage_states(folder):
        raise ConfigError(f'trial {folder.name} was {"finished" if is_finished(folder) else "begun"} with '
                          f'other settings: {listed(changed)}. Restore them, choose another --work-dir, or '
                          f'remove {folder}')
    if changed:
        try:
            check_settings(config)
        except ConfigError as error:
            raise ConfigError(f'trial {folder.name}: {error}') from error
    if is_finished(folder) and trajectories:
        now = {(snapshot.epoch, snapshot.sha256) for trajectory in trajectories for snapshot in trajectory}
        for member in read_json(folder / SELECTION)['members']:
            epoch = member['epoch']
            if now.isdisjoint({(epoch, member['sha256']), (epoch, None)}):
                raise ConfigError(f'trial {folder.name} is finished, but its teacher of epoch {epoch} was '
                                  'another than the trajectory holds now. Restore the trajectory, choose '
                                  f'another --work-dir, or remove {folder}')
