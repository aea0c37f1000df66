"""Which stages are finished, with which settings, and what came out."""

import time
from pathlib import Path
from typing import Any, Dict, List

from ..errors import ConfigError
from ..fileio import plain, read_json, write_json

FILE = 'stages.json'
# what may differ between the run that finished a stage and the run that builds on it
IRRELEVANT = ('work_dir', 'load_from', 'resume', 'launcher', 'log_level', 'log_processor', 'visualizer', 'vis_backends', 'env_cfg',
              'experiment_name', 'default_hooks', 'custom_imports', 'auto_resume', 'model_wrapper_cfg', 'out_dir', 'num_workers',
              'persistent_workers', 'pin_memory', 'prefetch_factor', 'data_root', 'trajectory')


def flatten(value: Any, prefix: str = '') -> Dict[str, Any]:
    """Nested dicts and lists as ``{'a.b.0': value}``, without what is :data:`IRRELEVANT`."""
    if isinstance(value, dict):
        pairs = [(key, item) for key, item in value.items() if key not in IRRELEVANT]
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    else:
        return {prefix: value}
    result: Dict[str, Any] = {}
    for key, item in pairs:
        result.update(flatten(item, f'{prefix}.{key}' if prefix else str(key)))
    return result


class StageLog:
    """``stages.json`` in the work_dir. Rank 0 writes; others hold the same in memory."""

    def __init__(self, work_dir: Path) -> None:
        self.path = Path(work_dir) / FILE
        self.stages: Dict[str, Dict] = read_json(self.path) if self.path.exists() else {}

    def is_done(self, stage: str) -> bool:
        return stage in self.stages

    def result(self, stage: str) -> Dict[str, Any]:
        return self.stages[stage]['result']

    @property
    def seconds(self) -> Dict[str, float]:
        return {stage: record['seconds'] for stage, record in self.stages.items()}

    def finish(self, stage: str, settings: Dict, seconds: float, result: Dict, write: bool) -> None:
        self.stages[stage] = plain(dict(seconds=round(seconds, 2), finished=time.strftime('%Y-%m-%d %H:%M:%S'), result=result,
                                        settings=flatten(plain(settings))))
        if write:
            write_json(self.path, self.stages)

    def changes(self, stage: str, settings: Dict) -> List[str]:
        """Where ``settings`` differ from those the stage was finished with."""
        before, now = self.stages[stage]['settings'], flatten(plain(settings))
        return [f'{key} was {before.get(key)!r}, now {now.get(key)!r}' for key in sorted({*before, *now})
                if before.get(key) != now.get(key)]

    def require_unchanged(self, stage: str, settings: Dict) -> None:
        """
        Raises:
            ConfigError: the config of a finished stage was changed since.
        """
        changed = self.changes(stage, settings)
        if changed:
            raise ConfigError(
                f'stage {stage} was finished with other settings: ' + '; '.join(changed[:3]) +
                (f' (and {len(changed) - 3} more)' if len(changed) > 3 else '') +
                '. Restore them, or choose another --work-dir (teacher=dict(trajectory=...) there reuses the snapshots)')
