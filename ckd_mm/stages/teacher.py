"""Train a teacher and keep its trajectory (CheckpointKD, Sec. 3.1), or take one that exists."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ..errors import CkdError, ConfigError
from ..infoplane.probe import Probe, held_out_record
from ..pipeline.run import Run
from ..pipeline.stage import Check, Result, numbered
from ..pipeline.training_stage import KEPT_CHECKPOINTS, StageRunner, TrainingStage, stage_config, train
from ..pipeline.untrained import UntrainedSnapshot
from ..report.section import Section
from ..selection import Selector
from ..settings import Settings, TrainingSettings, setting
from ..training import apply_overrides, exclude_held_out, shift_seed, type_name
from ..trajectory import MANIFEST, Snapshot, Trajectory, model_config_of, snapshot_epochs
from ..validate import check_keys
from .checks import check_maps
from .curves import validation_curve

SAME_NETWORK = 1000  # added to the seed of a teacher that has the student's own network


@dataclass(frozen=True, kw_only=True)
class WhenSettings(Settings):
    """When a training leaves snapshots: exactly one of ``interval``, ``epochs``, ``phases``."""
    interval: int | None = setting(None, help='after every so many epochs, and after the last')
    epochs: list | None = setting(None, help='after just these epochs, counted from 1')
    phases: int | None = setting(None, help='at the ends of so many equal phases of the training')

    @classmethod
    def read(cls, name: str, found: Any) -> 'WhenSettings':
        """The numbers are checked against the length of the training, see :meth:`at`."""
        check_keys(name, found, cls.names())
        given = {key: value for key, value in found.items() if value is not None}
        return cls(**given, given=given)

    def at(self, max_epochs: int) -> list[int]:
        """The epochs after which a training leaves a snapshot.

        Raises:
            ConfigError: naming the setting.
        """
        return snapshot_epochs(max_epochs, self.interval, self.epochs, self.phases)


@dataclass(frozen=True, kw_only=True)
class SnapshotSettings(WhenSettings):
    """``teacher.snapshots``."""
    ema: bool = setting(False, help="keep the averaged weights of the run's EMAHook instead")


@dataclass(frozen=True, kw_only=True)
class TeacherSettings(TrainingSettings):
    """``teacher``: the network whose checkpoints teach, and how it is trained otherwise than the student."""
    model: dict | None = setting(None, help='mmpretrain classifier; or dict(cfg_path=FILE, ...), the `model` '
                                            'of that config with other settings merged over it')
    snapshots: SnapshotSettings | None = setting(None, help='when to keep it while it is trained')
    trajectory: str | Path | list | tuple | None = setting(None, help='instead of a training: folder of '
                                                                      'snapshots that exist (trajectory.json '
                                                                      'or epoch_*.pth), or several')

    def check(self, name: str) -> None:
        super().check(name)
        for hook in self.overrides.get('custom_hooks') or []:
            check_no_own_hook(f'{name}.custom_hooks', hook)
        if self.trajectory is None:
            for key in ('model', 'snapshots'):
                if not self.given.get(key):
                    raise ConfigError(f'{name}.{key} is missing: give {name}=dict(model=..., '
                                      f'snapshots=dict(interval=...)), or {name}=dict(trajectory=FOLDER) to '
                                      'use snapshots that exist')
        elif not self.folders:
            raise ConfigError(f'{name}.trajectory is empty: give a folder, or a list of folders')

    @property
    def is_trained(self) -> bool:
        return self.trajectory is None

    @property
    def folders(self) -> list[Path]:
        """Of trajectories that exist."""
        listed = self.trajectory if isinstance(self.trajectory, (list, tuple)) else [self.trajectory]
        return [Path(folder) for folder in listed]


@dataclass(kw_only=True)
class TeacherResult(Result):
    """
    Args:
        trajectories: folders of the snapshots.
        epochs: of the snapshots of the first.
        trained: whether this run trained it.
    """
    trajectories: list[str]
    epochs: list[int]
    trained: bool


def check_no_own_hook(name: str, hook: Any) -> None:
    """
    Raises:
        ConfigError: the stages of a run add such a hook themselves.
    """
    from ..hooks.schedule_hook import schedule_names
    kind = type_name(hook)
    if kind in schedule_names():
        raise ConfigError(f'{name}: {kind} belongs into distill.schedule; every stage would inherit it')
    if kind == 'SnapshotHook' or (kind == 'InfoPlaneHook' and name == 'custom_hooks'):
        raise ConfigError(f'{name}: {kind} stands for what `teacher.snapshots` and `probe` ask for in this '
                          'config, and every stage would inherit it; take it out')


def teacher_training(run: Run, settings: TeacherSettings) -> Config:
    """The student's training with what the teacher says otherwise."""
    config = run.student_training()
    config.load_from = None
    if settings.model == config.model:  # with the student's seed it would begin with the student's weights
        shift_seed(config, SAME_NETWORK)
    return apply_overrides(config, dict(settings.overrides, **({} if settings.model is None else
                                                               dict(model=settings.model))))


class TeacherStage(TrainingStage[TeacherResult]):
    """One training of the teacher.

    Args:
        settings: ``teacher``.
        selector: which snapshots it wants beside those of ``teacher.snapshots``.
        index: of the training, from 0; each has a seed of its own.
        held_out: images that it is not trained on.
        probed: whether the information plane needs its feature maps.
    """
    Result = TeacherResult
    key = 'teacher'

    def __init__(self, settings: TeacherSettings, selector: Selector, index: int, held_out: Probe | None,
                 probed: bool) -> None:
        self.settings, self.selector, self.index = settings, selector, index
        self.held_out, self.probed = held_out, probed
        self.name = numbered('teacher', index)

    def training(self, run: Run) -> Config:
        return exclude_held_out(shift_seed(teacher_training(run, self.settings), self.index), self.held_out)

    def epochs(self, run: Run) -> list[int]:
        """When it leaves snapshots: as ``teacher.snapshots`` says, and where the selector wants them."""
        last = self.max_epochs(run)
        wanted = self.selector.wanted(last, self.index)
        return sorted({*self.settings.snapshots.at(last), *(epoch for epoch in wanted if epoch <= last)})

    def max_epochs(self, run: Run) -> int:
        return teacher_training(run, self.settings).train_cfg.max_epochs

    def folder(self, run: Run) -> Path:
        return run.work_dir if self.index == 0 else run.work_dir / self.name

    def config(self, run: Run) -> Config:
        config = self.training(run)
        checkpoint = config.setdefault('default_hooks', ConfigDict()).setdefault(
            'checkpoint', ConfigDict(type='CheckpointHook', interval=1))
        checkpoint.max_keep_ckpts = KEPT_CHECKPOINTS  # the snapshots are kept, these only to resume from
        checkpoint.pop('save_best', None)
        kept = self.held_out
        info = {} if kept is None else dict(held_out=held_out_record(kept.held_out, kept.seed))
        hook = dict(type='ckd_mm.SnapshotHook', out_dir=str(self.folder(run)), info=info, overwrite=True,
                    epochs=self.epochs(run), ema=self.settings.snapshots.ema)
        return stage_config(run, config, self.name, [hook])

    def execute(self, run: Run) -> TeacherResult:
        return self.finish(run, train(run, self.config(run)))

    def finish(self, run: Run, runner: StageRunner) -> TeacherResult:
        folder, epochs = self.folder(run), self.epochs(run)
        missing = sorted(set(epochs) - set(Trajectory.open(folder).epochs))
        if missing:
            raise CkdError(f'the teacher is trained, but snapshots of epochs {missing} are missing in '
                           f'{folder / MANIFEST}; remove {runner.work_dir}/last_checkpoint to train it again')
        return TeacherResult(trajectories=[str(folder)], epochs=epochs, trained=True,
                             stage_seconds=runner.seconds)

    def trajectories(self, run: Run) -> list[Trajectory]:
        return [Trajectory.open(self.folder(run))]

    def example(self, run: Run) -> Snapshot:
        """Stands for a snapshot, in checks before there is one."""
        return UntrainedSnapshot(model=model_config_of(teacher_training(run, self.settings)))

    def checks(self, run: Run) -> Iterator[Check]:
        if self.index:
            return
        yield from super().checks(run)
        if self.probed:
            network = run.network('teacher', model_config_of(self.training(run)))
            yield Check('maps', lambda: check_maps(network, run))
        if numbered(self.name, self.selector.runs - 1) not in run.done:
            yield Check('disk', lambda: self._check_disk(run))

    def _check_disk(self, run: Run) -> str:
        """Room for the snapshots that are still to come and for training checkpoints with momentum (twice the
        weights), the old one and the new."""
        network, runs = run.network('teacher', model_config_of(self.training(run))), self.selector.runs
        weights = sum(value.numel() * value.element_size() for value in network.state_dict().values())
        there = len([
            *run.work_dir.glob('snapshots/epoch_*.pth'), *run.work_dir.glob('teacher_*/snapshots/epoch_*.pth')
        ])
        wanted = runs * len(self.epochs(run))
        needed = weights * (max(wanted - there, 0) + 4 * runs)
        folder, free = free_disk(run.work_dir)
        if needed > free:
            raise CkdError(f'the trajectory needs about {needed / 2**30:.1f} GiB ({wanted} snapshots of '
                           f'{weights / 2**20:.0f} MiB) and {folder} has {free / 2**30:.1f} GiB free; keep '
                           'fewer snapshots (teacher.snapshots), or choose another --work-dir')
        return f'about {needed / 2**20:.0f} MiB needed, {free / 2**30:.0f} GiB free'

    def describe(self, run: Run) -> str:
        return f'{len(self.epochs(run))} snapshots in {self.max_epochs(run)} epochs'

    def report(self, run: Run, result: TeacherResult) -> Section:
        curve = validation_curve(run.work_dir / self.name, self.trajectories(run)) if self.index == 0 else []
        return Section(curves={'teacher': curve})


def free_disk(work_dir: Path) -> tuple[Path, int]:
    """Where a run will write, and the bytes that are free there."""
    folder = work_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder, shutil.disk_usage(folder).free
