"""All that sweeps ask of the pipeline."""

import copy
from pathlib import Path

from mmengine.config import Config

from ..cli import set_loader_defaults
from ..pipeline import DistillationPlan
from ..pipeline.settings import METHOD_KEYS, OWN_KEYS, RUNNER_KEYS  # noqa: F401
from ..pipeline.stage_log import StageLog
from ..trajectory import Trajectory

SUMMARY, SELECTION = 'summary.json', 'selection.json'


def check_settings(config: Config) -> None:
    """
    Raises:
        ConfigError: the run cannot work. The folders of ``teacher.trajectory`` need not exist yet.
    """
    DistillationPlan(copy.deepcopy(config))


def teacher_epochs(config: Config) -> int:
    return DistillationPlan(config).teacher_epochs


def teacher_seed(config: Config) -> int | None:
    return (DistillationPlan(config).merged_teacher().get('randomness') or {}).get('seed')


def snapshot_epochs(config: Config) -> list[int]:
    """After which epochs the (first) teacher of a config leaves, or left, a snapshot."""
    plan = DistillationPlan(config)
    return plan.snapshot_epochs_of(0) if plan.trains_teacher else plan.open_trajectories()[0].epochs


def given_trajectories(config: Config) -> list[Trajectory]:
    """Those of ``teacher.trajectory``; none where the teacher is to be trained."""
    plan = DistillationPlan(config)
    return [] if plan.trains_teacher else plan.open_trajectories()


def baseline_loader(config: Config) -> dict:
    """The ``train_dataloader`` of the student without a teacher: a schedule may hold out images."""
    return DistillationPlan(config).student_alone_config().train_dataloader


def stage_states(work_dir: Path) -> dict[str, bool]:
    """The stages that the run in ``work_dir`` has begun, and whether each is done."""
    log = StageLog(work_dir)
    return {stage: log.is_done(stage) for stage in log.stages}


def require_teacher_unchanged(config: Config) -> None:
    """
    Raises:
        ConfigError: the finished teacher in the config's ``work_dir`` was trained with other settings.
    """
    config = copy.deepcopy(config)
    set_loader_defaults(config)  # as tools/train.py did
    wanted = DistillationPlan(config).teacher_config().to_dict()
    StageLog(Path(config.work_dir)).require_unchanged('teacher', wanted)
