"""Which stages were started and finished, with which settings, and what came out."""

import time
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import plain, read_json, write_json
from ..record import differences, flatten, listed

FILE = 'stages.json'
DONE, RUNNING = 'done', 'running'


class StageLog:
    """``stages.json`` in the work_dir.

    Args:
        write: only rank 0 writes; others hold the same in memory.
    """

    def __init__(self, work_dir: Path, write: bool = True) -> None:
        self.path = Path(work_dir) / FILE
        self.write = write
        self.stages: dict[str, dict] = read_json(self.path) if self.path.exists() else {}

    def is_done(self, stage: str) -> bool:
        return self.stages.get(stage, {}).get('state') == DONE

    @property
    def any_done(self) -> bool:
        return any(self.is_done(stage) for stage in self.stages)

    def result(self, stage: str) -> dict[str, Any]:
        return self.stages[stage]['result']

    @property
    def seconds(self) -> dict[str, float]:
        return {stage: record['seconds'] for stage, record in self.stages.items() if record['state'] == DONE}

    def start(self, stage: str, settings: dict, processes: int) -> None:
        self.stages[stage] = dict(state=RUNNING, processes=processes, settings=flatten(settings))
        self._save()

    def finish(self, stage: str, seconds: float, result: dict) -> None:
        self.stages[stage].update(
            plain(
                dict(state=DONE, seconds=round(seconds, 2), finished=time.strftime('%Y-%m-%d %H:%M:%S'),
                     result=result)))
        self._save()

    def forget(self, stage: str) -> None:
        del self.stages[stage]
        self._save()

    def _save(self) -> None:
        if self.write:
            write_json(self.path, self.stages)

    def processes(self, stage: str) -> int:
        return self.stages[stage]['processes']

    def require_unchanged(self, stage: str, settings: dict) -> None:
        """
        Raises:
            ConfigError: the config of a stage that was started or finished has been changed since.
        """
        changed = differences(self.stages[stage]['settings'], flatten(settings))
        if changed:
            raise ConfigError(
                f'stage {stage} was {"finished" if self.is_done(stage) else "started"} with other settings: '
                f'{listed(changed)}. Restore '
                'them, or choose another --work-dir (teacher=dict(trajectory=...) there reuses the '
                'snapshots)')
