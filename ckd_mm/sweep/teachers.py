"""The trajectories that the students of a sweep learn from."""

import copy
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config, ConfigDict

from ..errors import ConfigError
from ..selection import Selector, build_selector
from ..trajectory import Trajectory
from .configs import written
from .pipeline_access import (
    check_settings,
    given_trajectories,
    require_teacher_unchanged,
    snapshot_epochs,
    stage_states,
    teacher_epochs,
    teacher_seed,
)

TEACHER = 'teacher_run'


class Teachers:
    """Given by ``teacher.trajectory``, or trained in ``teacher_run``, ``teacher_run_2``, ..., a seed each.

    Args:
        config: of the sweep, with its ``work_dir``.
        selectors: of the trials.

    Attributes:
        folders: of the trajectories.
        configs: of the trainings; none where the trajectories are given.

    Raises:
        ConfigError: a trial wants a snapshot that is not left, or a teacher was trained with other settings.
    """

    def __init__(self, config: Config, selectors: Sequence[Selector]) -> None:
        self.given, self.configs = given_trajectories(config), []
        self.folders = [trajectory.folder for trajectory in self.given]
        if not self.given:
            self._plan(copy.deepcopy(config), selectors)
        for selector in selectors if self.given else ():
            there = self.given[:selector.runs]
            selector.check([item.epochs for item in there], [item.max_epochs for item in there])

    def _plan(self, config: Config, selectors: Sequence[Selector]) -> None:
        own = build_selector(config.get('selector', 'last'))
        if config.get('probe') is None and (own.needs_plane or own.needs_images):
            config.probe = ConfigDict()  # the images that it holds out
        config.student_alone, config.launcher = False, 'none'
        seed, last, folder = teacher_seed(config), teacher_epochs(config), Path(config.work_dir, TEACHER)
        for run in range(max(selector.runs for selector in selectors)):
            if run > 0 and seed is not None:
                config.teacher.randomness = ConfigDict(seed=seed + run)
            wanted = {epoch for item in selectors if run < item.runs for epoch in item.wanted(last, run)}
            further = [] if run else snapshot_epochs(config)
            self.folders.append(Path(f'{folder}_{run + 1}') if run else folder)
            self.configs.append(_training(config, self.folders[-1], wanted, further))

    @property
    def todo(self) -> list[Config]:
        """Of the trainings that are not done."""
        return [config for config in self.configs if not stage_states(config.work_dir).get('teacher')]

    def trajectories(self) -> list[Trajectory]:
        """None before all are trained."""
        return self.given or ([] if self.todo else [Trajectory.open(folder) for folder in self.folders])


def _training(config: Config, folder: Path, wanted: set[int], further: list[int]) -> Config:
    """A run whose stage 'teacher' leaves snapshots after the ``wanted`` and ``further`` epochs; one that has
    begun leaves those that it was to leave."""
    own, states, epochs = copy.deepcopy(config), stage_states(folder), sorted({*wanted, *further})
    own.work_dir, own.selector = str(folder), 'last'
    if states:
        epochs = written(own)['teacher']['snapshots']['epochs']
        missing = sorted(wanted - set(epochs))
        if missing:
            raise ConfigError(f'the teacher in {folder} leaves no snapshot after epochs {missing}; choose '
                              f'among {epochs}, or another --work-dir')
    own.teacher.snapshots = ConfigDict(epochs=epochs, ema=own.teacher.snapshots.get('ema', False))
    check_settings(own)
    if states.get('teacher'):
        require_teacher_unchanged(own)
    return own
