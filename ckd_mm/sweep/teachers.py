"""The trajectories that the students of a sweep learn from."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config, ConfigDict

from ..errors import ConfigError
from ..selection import Selector, build_selector
from ..trajectory import Trajectory
from .pipeline_access import open_stage, read_config, require_teacher_unchanged, stage_states


@dataclass(frozen=True)
class Teachers:
    folders: list[Path]  # of the trajectories
    trajectories: list[Trajectory]  # none before all are trained
    todo: list[Config] = field(default_factory=list)  # trainings that are not finished


def snapshot_epochs(config: Config) -> list[int]:
    """After which epochs the (first) teacher of a config leaves, or left, a snapshot."""
    run, teacher = open_stage(config)
    return teacher.times(run) if run.settings.teacher.is_trained else teacher.trajectories(run)[0].times


def plan_teachers(config: Config, selectors: Sequence[Selector]) -> Teachers:
    """Those of ``teacher.trajectory``, or trainings in ``teacher_run``, ``teacher_run_2``, ..., a seed each.
    Raises ConfigError if the selector of a trial needs a snapshot that is not kept, or a teacher was trained
    with other settings."""
    run, teacher = open_stage(config)
    if not run.settings.teacher.is_trained:
        given = teacher.trajectories(run)
        for selector in selectors:
            there = given[:selector.runs]
            selector.check([item.times for item in there], [item.length for item in there])
        return Teachers([item.folder for item in given], given)
    seed, last = (teacher.training(run).get('randomness') or {}).get('seed'), teacher.length(run)
    config, own = copy.deepcopy(config), build_selector(config.get('selector', 'last'))
    if config.get('probe') is None and (own.needs_plane or own.needs_images):
        config.probe = ConfigDict()  # the images that it holds out
    config.selector, config.student_alone, config.launcher = 'last', False, 'none'
    folders, todo = [], []
    for index in range(max(selector.runs for selector in selectors)):
        folders.append(Path(run.work_dir, f'teacher_run_{index + 1}' if index else 'teacher_run'))
        if index and seed is not None:
            config.teacher.randomness = ConfigDict(seed=seed + index)
        wanted = {epoch for item in selectors if index < item.runs for epoch in item.wanted(last, index)}
        training = _training(config, folders[-1], wanted, [] if index else teacher.times(run))
        if not stage_states(folders[-1]).get('teacher'):
            todo.append(training)
    return Teachers(folders, [] if todo else [Trajectory.open(folder) for folder in folders], todo)


def _training(config: Config, folder: Path, wanted: set[int], further: list[int]) -> Config:
    """A run whose stage 'teacher' leaves snapshots after the ``wanted`` and ``further`` epochs; one that has
    begun leaves those of its config."""
    own, states, epochs = copy.deepcopy(config), stage_states(folder), sorted({*wanted, *further})
    own.work_dir = str(folder)
    if states:
        epochs = read_config(own)['teacher']['snapshots']['epochs']
        missing = sorted(wanted - set(epochs))
        if missing:
            raise ConfigError(f'the teacher in {folder} leaves no snapshot after epochs {missing}; choose '
                              f'among {epochs}, or another --work-dir')
    own.teacher.snapshots = ConfigDict(epochs=epochs, ema=own.teacher.snapshots.get('ema', False))
    open_stage(own)  # raises ConfigError where it cannot work
    if states.get('teacher'):
        require_teacher_unchanged(own)
    return own
