"""Which stages were started and finished, with which settings, and their results."""

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, get_world_size, is_main_process

from ..distributed import on_main
from ..errors import CkdError, ConfigError, DivergedError
from ..files import plain, read_json, write_json
from ..record import flatten, listed, read_as
from ..settings import Settings, setting
from ..validate import check_dict
from .run import Run
from .stage import Stage
from .stage_runner import latest_checkpoint

FILE = 'stages.json'
DONE, RUNNING = 'done', 'running'
WITHOUT = ('Restore it; or remove it and pass --resume: each training goes on from its last checkpoint, all '
           'else is done again, and nobody can tell whether settings have changed since')
ELSEWHERE = 'choose another --work-dir (teacher=dict(trajectory=...) there reuses the snapshots)'


@dataclass(frozen=True, kw_only=True)
class Record(Settings):
    """What ``stages.json`` says of a stage."""
    example = "dict(state='done', ...)"
    state: str = setting(choices=(DONE, RUNNING), help='whether it is finished', remedy='it has no state')
    processes: int = setting(1, at_least=1, help='that it was started on')
    settings: dict = setting(help='what it depends on, flat', remedy='nothing can be compared')
    seconds: float = setting(0.0, at_least=0, help='spent in it')
    diverged: bool = setting(False, help='whether its training has, at least once')
    finished: str | None = setting(None, help='when')
    result: dict | None = setting(None, help='what it left, a Result')


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
        before: dict[str, set[str]] = {}  # all that a stage requires, directly or through others
        for stage in self.stages:
            before[stage.name] = set(stage.requires).union(*map(before.get, stage.requires))
            missing = [name for name in before if name in before[stage.name] and name not in self.records]
            if missing and stage.name in self.records and not stage.is_cheap:
                raise ConfigError(f'stage {missing[0]} comes before stage {stage.name}, which was '
                                  f'{self._state(stage)} without it. Restore the settings, or {ELSEWHERE}')

    def is_done(self, name: str) -> bool:
        return self.records.get(name, {}).get('state') == DONE

    def has_diverged(self, name: str) -> bool:
        """Whether its training has, at least once: its learning rate may change."""
        return self.records.get(name, {}).get('diverged', False)

    def _way_on(self, stage: Stage, run: Run) -> str:
        checkpoint = on_main(lambda: latest_checkpoint(self.work_dir / stage.name))
        start = 'its start' if checkpoint is None else Path(checkpoint).name
        key = stage.setting(run, 'optim_wrapper')
        return (f'Lower the learning rate or clip gradients: the same command with --resume --cfg-options '
                f'{key}.optimizer.lr=..., or {key}.clip_grad.max_norm=1.0, goes on with the {stage.title} '
                f'from {start}')

    def processes(self, name: str) -> int:
        return self.records[name]['processes']

    def run(self, stage: Stage, run: Run) -> Any:
        """The result of a stage, which is executed unless it is finished.

        Raises:
            ConfigError: it was begun with other settings.
        """
        name = stage.name
        if self.is_done(name) and not on_main(lambda: stage.is_current(run, self._result(stage))):
            del self.records[name]
        settings = self.settings(stage, run)
        if self.is_done(name):
            self.require_unchanged(stage, settings, run)
            run.seconds[name] = self.records[name]['seconds']
            run.log(f'Stage {name}: finished before, in {run.seconds[name]:.0f} s')
            return self._result(stage)
        if name in self.records and (self.work_dir / name / 'last_checkpoint').exists():
            self.require_unchanged(stage, settings, run)
            if self.processes(name) != get_world_size():
                run.warn(f'Stage {name} was started on {self.processes(name)} processes and goes on on '
                         f'{get_world_size()}: the images a step change with it')
        begun = dict(state=RUNNING, processes=get_world_size(), settings=settings)
        if self.has_diverged(name):
            begun['diverged'] = True
        self._write(name, begun)
        run.log(f'Stage {name}: starting')
        started = time.perf_counter()
        try:
            result = stage.execute(run)
        except DivergedError as error:
            self._write(name, dict(begun, diverged=True))
            raise DivergedError(f'{stage.title}: {error}. {self._way_on(stage, run)}') from error
        barrier()
        run.seconds[name] = round(result.stage_seconds or time.perf_counter() - started, 2)
        self._write(name, dict(self.records[name], state=DONE, seconds=run.seconds[name],
                               finished=time.strftime('%Y-%m-%d %H:%M:%S'), result=result.to_dict()))
        run.log(f'Stage {name}: finished in {run.seconds[name]:.0f} s')
        gc.collect()
        torch.cuda.empty_cache()
        return self._result(stage)

    def settings(self, stage: Stage, run: Run) -> dict[str, Any]:
        """What the stage depends on, flat; files in the work_dir by their names there, so that it may be
        moved."""
        own = f'{self.work_dir}/'
        return {key: value.removeprefix(own) if isinstance(value, str) else value
                for key, value in flatten(stage.depends_on(run)).items()}

    def require_unchanged(self, stage: Stage, settings: dict[str, Any], run: Run) -> None:
        """Raises ConfigError where the stage was begun with other settings that make another result, and
        warns of further ones (docs/resume.md)."""
        changes = stage.changes(run, self.records[stage.name]['settings'], settings)
        # what changes after a divergence may be inherited by finished stages
        others = self.records if self.is_done(stage.name) else ()
        if any(map(self.has_diverged, (stage.name, *others))):
            changes = changes.after_divergence()
        if changes.refused:
            away = ELSEWHERE if self.is_done(stage.name) else (
                f'remove {self.work_dir / stage.name}/last_checkpoint to train this stage from its start; '
                'finished stages stay as they are')
            raise ConfigError(f'stage {stage.name} was {self._state(stage)} with other settings: '
                              f'{listed(changes.refused)}. Restore them{changes.remedy}, or {away}')
        if changes.accepted:
            then = 'what is finished stays as it is' if self.is_done(stage.name) else \
                f'the {stage.title} goes on with what is said now'
            run.warn(f'Stage {stage.name}: {listed(changes.accepted)}; {then}')

    def _state(self, stage: Stage) -> str:
        return 'finished' if self.is_done(stage.name) else 'started'

    def _result(self, stage: Stage) -> Any:
        return result_of(stage, self.records, self.work_dir)

    def _write(self, name: str, record: dict[str, Any]) -> None:
        self.records[name] = plain(record)
        if is_main_process():
            write_json(self.path, self.records)


def read_records(work_dir: Path) -> dict[str, dict]:
    """The records of all stages that were started in a work_dir, see :class:`Store`; empty where none was."""
    path = Path(work_dir) / FILE
    if not path.exists():
        return {}
    records = read_json(path, WITHOUT)
    try:
        for name, record in check_dict('stages', records, 'dict(teacher=dict(...))').items():
            Record.read(name, record)
    except ConfigError as error:
        raise CkdError(f'{path} is damaged: {error}. {WITHOUT}') from error
    return records


def result_of(stage: Stage, records: dict[str, dict], work_dir: Path) -> Any:
    """A new Result as it is in the file, so that a resumed run gets what an unbroken one gets.

    Raises:
        CkdError: it is damaged.
    """
    try:
        return read_as(stage.Result, f'{stage.name}.result', records[stage.name].get('result'))
    except ConfigError as error:
        raise CkdError(f'{work_dir / FILE} is damaged: {error}. {WITHOUT}') from error
