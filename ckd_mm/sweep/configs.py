"""The config file of a training, ``NAME/NAME.py``, and how far its run has come."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..files import atomic_write
from ..record import differences, flatten
from ..training import method_settings
from ..trajectory.configs import parse_config_text
from .pipeline_access import OWN_KEYS, SUMMARY, stage_states


def config_file(config: Config) -> Path:
    return Path(config.work_dir, f'{Path(config.work_dir).name}.py')  # its name is the run's


def written(config: Config) -> dict[str, Any]:
    """What the file says; nothing, where there is none."""
    file = config_file(config)
    return parse_config_text(file.read_text(), str(file)) if file.exists() else {}


def changes(config: Config) -> list[str]:
    """How ``config`` differs from what is written, where that matters for the results."""
    before, now = (method_settings(found, OWN_KEYS) for found in (written(config), _as_written(config)))
    return differences(flatten(before), flatten(now))


def write_config(config: Config) -> None:
    if written(config) != _as_written(config):
        atomic_write(config_file(config), config.pretty_text.encode())


def _as_written(config: Config) -> dict[str, Any]:
    text = Config(config.to_dict(), format_python_code=False).pretty_text  # to format it takes long
    return parse_config_text(text, config.work_dir)


def is_finished(folder: Path) -> bool:
    states = stage_states(folder)
    return bool(states) and all(states.values()) and (folder / SUMMARY).exists()
