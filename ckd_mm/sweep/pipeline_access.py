"""All that sweeps need to know of the pipeline: what a config would run, and how far its run has come."""

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..cli import set_loader_defaults
from ..files import atomic_write
from ..pipeline.build import METHOD_KEYS, RunSettings, open_run, stage_of
from ..pipeline.run import Run
from ..pipeline.runner import SUMMARY
from ..pipeline.store import Store, read_records
from ..record import differences, flatten
from ..settings import RUNNER_KEYS
from ..stages.select import SelectStage
from ..training import result_settings
from ..trajectory.configs import parse_config_text

OWN_KEYS = tuple(RunSettings.names())

__all__ = ['METHOD_KEYS', 'OWN_KEYS', 'RUNNER_KEYS', 'SUMMARY', 'changed_settings',
           'config_file', 'is_finished', 'open_stage', 'read_config', 'require_teacher_unchanged',
           'selected', 'stage_states', 'write_config']


def open_stage(config: Config, name: str = 'teacher') -> tuple[Run, Any]:
    """The run of a config, which is left as it is, and one of its stages. Raises ConfigError if it cannot
    work; the folders of ``teacher.trajectory`` need not exist yet."""
    run, stages = open_run(copy.deepcopy(config))
    return run, stage_of(stages, name)


def stage_states(work_dir: Path) -> dict[str, bool]:
    """The stages that the run in ``work_dir`` has begun, and whether each is done."""
    return {name: record['state'] == 'done' for name, record in read_records(work_dir).items()}


def is_finished(work_dir: Path) -> bool:
    states = stage_states(work_dir)
    return bool(states) and all(states.values()) and (work_dir / SUMMARY).exists()


def selected(work_dir: Path) -> list[dict[str, Any]]:
    """The snapshots that teach in a finished run, as its ``select`` stage has left them."""
    return read_records(work_dir)[SelectStage.name]['result']['members']


def require_teacher_unchanged(config: Config) -> None:
    """Raises ConfigError if the finished teacher in the ``work_dir`` was trained with other settings."""
    config = copy.deepcopy(config)
    set_loader_defaults(config)  # as tools/train.py did
    run, teacher = open_stage(config)
    store = Store(run.work_dir, [teacher])
    store.require_unchanged(teacher, store.settings(teacher, run), run)


def config_file(config: Config) -> Path:
    return Path(config.work_dir, f'{Path(config.work_dir).name}.py')  # its name is the run's


def read_config(config: Config) -> dict[str, Any]:
    """What the file of this config says; nothing where there is none."""
    file = config_file(config)
    return parse_config_text(file.read_text(encoding='utf-8'), str(file)) if file.exists() else {}


def write_config(config: Config) -> None:
    atomic_write(config_file(config), text_of(config).encode())


def changed_settings(config: Config) -> list[str]:
    """How ``config`` differs from its file, where that matters for the results."""
    now = parse_config_text(text_of(config), config.work_dir)
    return differences(*(flatten(result_settings(found, OWN_KEYS)) for found in (read_config(config), now)))


def text_of(config: Config) -> str:
    """Not formatted by yapf, which takes half a second."""
    return Config(config.to_dict(), format_python_code=False).pretty_text
