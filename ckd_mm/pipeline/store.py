"""Which stages were started and finished, with which settings, and what came out."""

import gc
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, get_world_size, is_main_process

from ..distributed import on_main
from ..errors import CkdError, ConfigError
from ..files import plain, read_json, write_json
from ..record import differences, flatten, listed
from .run import Run
from .stage import Stage
from .stage_runner import latest_checkpoint

FILE = 'stages.json'
DONE, RUNNING = 'done', 'running'
ELSEWHERE = 'choose another --work-dir (teacher=dict(trajectory=...) there reuses the snapshots)'


class Store:
    """``stages.json`` in the work_dir. Rank 0 alone writes; others hold the same in memory.

    Args:
        stages: of the run, in their order.

    Raises:
        CkdError: the file is damaged.
        ConfigError: a stage that the config has now comes before one that was begun without it.
    """

    def __init__(self, work_dir: Path, stages: Sequence[Stage]) -> None:
        self.work_dir, self.path, self.stages = Path(work_dir), Path(work_dir) / FILE, list(stages)
        self.records: dict[str, dict] = on_main(lambda: read_records(self.work_dir))
        self._require_nothing_between()

    # ------------------------------------------------------------ what there is
    def is_done(self, name: str) -> bool:
        return self.records.get(name, {}).get('state') == DONE

    def processes(self, name: str) -> int:
        return self.records[name]['processes']

    def require_before(self, name: str, checkpoint: str) -> None:
        """
        Raises:
            ConfigError: this stage is to go on from a checkpoint, but one that it requires is not finished.
        """
        stage = next(stage for stage in self.stages if stage.name == name)
        if not all(map(self.is_done, stage.requires)):
            raise ConfigError(f'--resume {checkpoint} names a checkpoint of the {name}, but the stages '
                              f'before it are not finished in {self.work_dir}; pass --resume alone')

    def _require_nothing_between(self) -> None:
        for stage in (stage for stage in self.stages if not stage.is_cheap):
            for before in self._all_required(stage):
                if stage.name in self.records and before not in self.records:
                    how = 'finished' if self.is_done(stage.name) else 'started'
                    raise ConfigError(f'stage {before} comes before stage {stage.name}, which was {how} '
                                      f'without it. Restore the settings, or {ELSEWHERE}')

    def _all_required(self, stage: Stage) -> list[str]:
        """Directly or by way of others."""
        known, found = {stage.name: stage for stage in self.stages}, list(stage.requires)
        for name in found:
            found += [before for before in known[name].requires if before not in found]
        return [stage.name for stage in self.stages if stage.name in found]

    # ------------------------------------------------------------ a stage
    def run(self, stage: Stage, run: Run) -> Any:
        """The result of a stage: done, or read if it was done before.

        Raises:
            ConfigError: it was begun with other settings.
        """
        name = stage.name
        if self.is_done(name) and not on_main(lambda: stage.is_current(run, self._result(stage))):
            del self.records[name]
        if self.is_done(name):
            self.require_unchanged(stage, run)
            run.seconds[name] = self.records[name]['seconds']
            run.log(f'Stage {name}: finished before, in {run.seconds[name]:.0f} s')
            return self._result(stage)
        self._start(stage, run)
        run.log(f'Stage {name}: starting')
        started = time.perf_counter()
        result = stage.execute(run)
        barrier()
        seconds = result.stage_seconds or time.perf_counter() - started
        self._finish(name, seconds, result.to_dict())
        run.seconds[name] = self.records[name]['seconds']
        run.log(f'Stage {name}: finished in {seconds:.0f} s')
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self._result(stage)

    def _start(self, stage: Stage, run: Run) -> None:
        processes = get_world_size()
        if stage.name in self.records and latest_checkpoint(self.work_dir / stage.name) is not None:
            self.require_unchanged(stage, run)
            before = self.processes(stage.name)
            if before != processes:
                run.warn(f'Stage {stage.name} was started on {before} processes and goes on on {processes}: '
                         'the images a step change with it')
        self.records[stage.name] = dict(state=RUNNING, processes=processes,
                                        settings=self._flat(stage.depends_on(run)))
        self._save()

    def _finish(self, name: str, seconds: float, result: dict[str, Any]) -> None:
        self.records[name].update(plain(dict(state=DONE, seconds=round(seconds, 2),
                                             finished=time.strftime('%Y-%m-%d %H:%M:%S'), result=result)))
        self._save()

    def _result(self, stage: Stage) -> Any:
        """What it left, as the file says it, so that a resumed run sees what an unbroken one sees."""
        return stage.Result(**self.records[stage.name]['result'])

    def _save(self) -> None:
        if is_main_process():
            write_json(self.path, self.records)

    # ------------------------------------------------------------ settings
    def _flat(self, settings: dict[str, Any]) -> dict[str, Any]:
        return flatten(self._wherever(settings))

    def _wherever(self, settings: Any) -> Any:
        """Files of the run itself by their names in the work_dir, which may be moved."""
        if isinstance(settings, dict):
            return {key: self._wherever(value) for key, value in settings.items()}
        if isinstance(settings, (list, tuple)):
            return [self._wherever(value) for value in settings]
        own = f'{self.work_dir}/'
        return settings[len(own):] if isinstance(settings, str) and settings.startswith(own) else settings

    def require_unchanged(self, stage: Stage, run: Run) -> None:
        """
        Raises:
            ConfigError: a stage was begun with other settings.
        """
        changed = differences(self.records[stage.name]['settings'], self._flat(stage.depends_on(run)))
        if changed:
            how = 'finished' if self.is_done(stage.name) else 'started'
            raise ConfigError(f'stage {stage.name} was {how} with other settings: {listed(changed)}. Restore '
                              f'them, or {ELSEWHERE}')


def read_records(work_dir: Path) -> dict[str, dict]:
    """Of all stages that were started in a work_dir, see :class:`Store`; empty where none was."""
    path = Path(work_dir) / FILE
    if not path.exists():
        return {}
    records = read_json(path)
    if not isinstance(records, dict):
        raise CkdError(f'{path} is damaged: it is no table of stages. Remove it to start every stage anew')
    return records
