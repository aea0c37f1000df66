"""A trial: one student, distilled with a config that differs from the others' in a few keys."""

import copy
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ..cli import set_loader_defaults
from ..errors import ConfigError
from ..files import read_json, write_json
from ..hooks.schedule_hook import schedule_class
from ..hooks.stop_when_overtaken_hook import StopWhenOvertakenHook
from ..pipeline import CheckpointDistillRunner, DistillationPlan
from ..pipeline.checkpoint_distill_runner import SELECTION, SUMMARY
from ..pipeline.schedule import IMAGES
from ..pipeline.settings import METHOD_KEYS, RUNNER_KEYS
from ..pipeline.stage_log import StageLog
from ..record import differences, flatten, listed
from ..trajectory import Trajectory
from .lock import is_locked, lock

RECORD, FAILURE, LOCK = 'trial.json', 'failed.json', 'lock'
ALONE, EPOCH = 'alone', 'epoch'


@dataclass(frozen=True)
class Trial:
    """
    Args:
        kind: 'epoch': one snapshot teaches; 'alone': nobody; or the kind of an ensemble.
        seed: of the student.
        epoch: of the snapshot; None: the last.
        k: size of the ensemble.
        overrides: further settings, dotted keys as of ``--cfg-options``.
    """
    kind: str
    seed: int
    epoch: int | None = None
    k: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        who = self.kind if self.kind == ALONE else f'{self.kind}_{self.k or self.epoch or "last"}'
        settings = ''.join(f'_{key.split(".")[-1]}_{value}' for key, value in self.overrides.items())
        return f'{who}{settings}_seed_{self.seed}'.replace('/', '-').replace(' ', '')

    @property
    def selector(self) -> dict[str, Any]:
        if self.kind == EPOCH and self.epoch is not None:
            return dict(type='epoch', epochs=self.epoch)
        return dict(type='last') if self.kind in (ALONE,
                                                  EPOCH) else dict(type='ensemble', kind=self.kind, k=self.k)

    def config(self, sweep: Config, folder: Path, trajectories: Sequence[Path]) -> Config:
        """The config of an ordinary distillation run.

        Args:
            sweep: the config that all trials share.
            folder: where the trial lies.
            trajectories: folders of the teachers; only those that the trial needs are named in its config.
        """
        config = copy.deepcopy(sweep)
        config.merge_from_dict(self.overrides)
        config.work_dir, config.launcher = str(folder), 'none'
        config.setdefault('randomness', ConfigDict()).seed = self.seed
        probe, schedules = config.get('probe') or {}, (config.get('distill') or {}).get('schedule') or []
        for schedule in schedules if isinstance(schedules, list) else [schedules]:
            if schedule_class(
                    schedule
            ) is StopWhenOvertakenHook:  # which has its images of the probe, and trials measure no plane
                schedule.update({key: probe[key] for key in IMAGES if key in probe})
        config.selector, config.probe, config.student_alone = ConfigDict(self.selector), None, False
        own = training_of(config.teacher) if config.get('heads') is not None else {}
        config.teacher = ConfigDict(
            own, **_given(config.teacher, [str(trajectory) for trajectory in trajectories]))
        if self.kind == ALONE:
            # on the images of those that are taught: a schedule may hold out some
            config.train_dataloader = DistillationPlan(config).student_alone_config().train_dataloader
            config.distill = ConfigDict(ce_weight=1.0, kd_weight=0.0)  # plain training, bit for bit
            for key in METHOD_KEYS:
                config.pop(key, None)
        set_loader_defaults(config)
        return config


def training_of(teacher: dict) -> dict[str, Any]:
    """How a teacher is trained otherwise than the student, which is also how heads on its snapshots are; but
    for the images."""
    keys = [key for key in teacher if key in RUNNER_KEYS and key not in ('load_from', 'val_dataloader')]
    found = {key: copy.deepcopy(teacher[key]) for key in keys}
    if isinstance(found.get('train_dataloader'), dict):
        found['train_dataloader'].pop('dataset', None)
    return found


def _given(teacher: dict, trajectories: list[str]) -> ConfigDict:
    """The teacher of a config, trained already. Its network is asked for only where checkpoints do not say it
    themselves."""
    kept = dict(
        model=teacher['model']) if 'trajectory' in teacher and teacher.get('model') is not None else {}
    if teacher.get('data_preprocessor') is not None:
        kept['data_preprocessor'] = teacher['data_preprocessor']
    return ConfigDict(kept, trajectory=trajectories if len(trajectories) > 1 else trajectories[0])


class TrialFolder:
    """A trial on disk: what it is, its run, and how far that came."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    @property
    def record(self) -> dict[str, Any]:
        return read_json(self.folder / RECORD)

    def check(self, trial: Trial, config: Config) -> None:
        """
        Raises:
            ConfigError: the trial was begun with another config, or this one cannot work.
        """
        if (self.folder / RECORD).exists():
            changed = differences(self.record['settings'], flatten(config.to_dict()))
            if changed and StageLog(self.folder).stages:
                raise ConfigError(f'trial {trial.name} was {"finished" if self.finished else "begun"} with '
                                  'other settings: '
                                  f'{listed(changed)}. Restore them, choose another --work-dir, or remove '
                                  f'{self.folder}')
            if not changed:
                return
        try:
            DistillationPlan(copy.deepcopy(config))
        except ConfigError as error:
            raise ConfigError(f'trial {trial.name}: {error}') from error

    # ------------------------------------------------------------ how far it is
    @property
    def finished(self) -> bool:
        stages = StageLog(self.folder)
        return (self.folder / SUMMARY).exists() and bool(stages.stages) and all(
            map(stages.is_done, stages.stages))

    @property
    def status(self) -> str:
        """'finished', 'running' (in another process), 'failed', 'begun' or 'waiting'."""
        if self.finished:
            return 'finished'
        if is_locked(self.folder / LOCK):
            return 'running'
        if (self.folder / FAILURE).exists():
            return 'failed'
        return 'begun' if (self.folder / RECORD).exists() else 'waiting'

    @property
    def summary(self) -> dict[str, Any]:
        return read_json(self.folder / SUMMARY)

    @property
    def failure(self) -> dict[str, str] | None:
        return read_json(self.folder / FAILURE) if (self.folder / FAILURE).exists() else None

    def check_teachers(self, trajectories: Sequence[Trajectory]) -> None:
        """
        Raises:
            ConfigError: it is finished, but who taught there is no longer what the trajectory holds.
        """
        now: dict[int, set] = {}
        for snapshot in (snapshot for trajectory in trajectories for snapshot in trajectory):
            now.setdefault(snapshot.epoch, set()).add(snapshot.sha256)
        for member in read_json(self.folder / SELECTION)['members']:
            found = now.get(member['epoch'], set())
            if member['sha256'] not in found and None not in found:
                raise ConfigError(f'trial {self.folder.name} is finished, but its teacher of epoch '
                                  f'{member["epoch"]} was another than the '
                                  'trajectory holds now. Restore the trajectory, choose another '
                                  f'--work-dir, or remove {self.folder}')

    # ------------------------------------------------------------ the run
    def run(self, trial: Trial, config: Config) -> None:
        """Train and evaluate, or go on with it; what goes wrong is written down too.

        Raises:
            Locked: another process is at it.
        """
        with lock(self.folder / LOCK):
            if self.finished:  # by another process, just now
                return
            (self.folder / FAILURE).unlink(missing_ok=True)
            write_json(self.folder / RECORD,
                       dict(asdict(trial), name=trial.name, settings=flatten(config.to_dict())))
            # a config file that tools/train.py runs as well; its name is the run's
            file = self.folder / f'{self.folder.name}.py'
            config.dump(file)
            config = Config.fromfile(file)
            if StageLog(self.folder).stages:
                config.resume, config.load_from = True, None
            try:
                CheckpointDistillRunner(config).train()
            except Exception as error:
                if isinstance(error.__context__, KeyboardInterrupt
                              ):  # some of mmengine's handlers turn Ctrl-C into an error of their own
                    raise KeyboardInterrupt from error
                write_json(self.folder / FAILURE,
                           dict(error=f'{type(error).__name__}: {error}', traceback=traceback.format_exc()))
                raise
