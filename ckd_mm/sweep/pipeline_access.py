"""All that sweeps need to know of the pipeline."""

import copy
from pathlib import Path

from mmengine.config import Config

from ..cli import set_loader_defaults
from ..pipeline.build import METHOD_KEYS, RunSettings, open_run, stage_of
from ..pipeline.runner import SUMMARY
from ..pipeline.store import Store, read_records
from ..settings import RUNNER_KEYS
from ..stages.select import SELECTION
from ..trajectory import Trajectory

OWN_KEYS = tuple(RunSettings.names())

__all__ = [
    'METHOD_KEYS', 'OWN_KEYS', 'RUNNER_KEYS', 'SELECTION', 'SUMMARY', 'baseline_loader', 'check_settings',
    'given_trajectories', 'require_teacher_unchanged', 'snapshot_epochs', 'stage_states', 'teacher_epochs',
    'teacher_seed'
]


def check_settings(config: Config) -> None:
    """
    Raises:
        ConfigError: the run cannot work. The folders of ``teacher.trajectory`` need not exist yet.
    """
    open_run(copy.deepcopy(config))


def teacher_epochs(config: Config) -> int:
    run, stages = open_run(copy.deepcopy(config))
    return stage_of(stages, 'teacher').max_epochs(run)


def teacher_seed(config: Config) -> int | None:
    run, stages = open_run(copy.deepcopy(config))
    return (stage_of(stages, 'teacher').training(run).get('randomness') or {}).get('seed')


def snapshot_epochs(config: Config) -> list[int]:
    """After which epochs the (first) teacher of a config leaves, or left, a snapshot."""
    run, stages = open_run(copy.deepcopy(config))
    teacher = stage_of(stages, 'teacher')
    return teacher.epochs(run) if run.settings.teacher.is_trained else teacher.trajectories(run)[0].epochs


def given_trajectories(config: Config) -> list[Trajectory]:
    """Those of ``teacher.trajectory``; none where the teacher is to be trained."""
    run, stages = open_run(copy.deepcopy(config))
    return [] if run.settings.teacher.is_trained else stage_of(stages, 'teacher').trajectories(run)


def baseline_loader(config: Config) -> dict:
    """The ``train_dataloader`` of the student without a teacher: a schedule may hold out images, and cached
    targets show views."""
    config = copy.deepcopy(config)
    config.student_alone = 1
    run, stages = open_run(config)
    return stage_of(stages, 'student_alone').config(run).train_dataloader


def stage_states(work_dir: Path) -> dict[str, bool]:
    """The stages that the run in ``work_dir`` has begun, and whether each is done."""
    return {name: record['state'] == 'done' for name, record in read_records(work_dir).items()}


def require_teacher_unchanged(config: Config) -> None:
    """
    Raises:
        ConfigError: the finished teacher in the config's ``work_dir`` was trained with other settings.
    """
    config = copy.deepcopy(config)
    set_loader_defaults(config)  # as tools/train.py did
    run, stages = open_run(config)
    Store(run.work_dir, stages).require_unchanged(stage_of(stages, 'teacher'), run)
