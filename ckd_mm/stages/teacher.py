"""Train a teacher and keep its checkpoints (CheckpointKD, Algorithm 1, line 1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ..counting import Length, finished, length_of
from ..distributed import on_main
from ..errors import CkdError, ConfigError
from ..infoplane.probe import Probe
from ..pipeline.changes import Changes, named_by_type
from ..pipeline.run import Run
from ..pipeline.stage import Check, Result, numbered
from ..pipeline.training_stage import KEPT_CHECKPOINTS, StageRunner, TrainingStage, stage_config
from ..report.curves import read_curve
from ..report.section import Section
from ..selection import Selector
from ..settings import Settings, TrainingSettings, setting
from ..teachers.input_statistics import resizing
from ..training import apply_overrides, as_list, exclude_held_out, shift_seed
from ..trajectory import MANIFEST, Trajectory, model_config_of, snapshot_times
from ..trajectory.schedule import KEYS, LISTED
from .checks import check_disk, check_no_own_hook

SAME_NETWORK = 1000  # added to the seed of a teacher that has the student's own network


@dataclass(frozen=True, kw_only=True)
class WhenSettings(Settings):
    """When a training leaves snapshots: exactly one of ``interval``, ``epochs``, ``iters``, ``phases``."""
    interval: int | None = setting(
        None, at_least=1, help='after every so many epochs, and after the last; in a training by iterations, '
        'iterations')
    epochs: list | None = setting(None, help='after just these epochs, counted from 1')
    iters: list | None = setting(None, help='after just these iterations, of a training by iterations')
    phases: int | None = setting(None, at_least=1, help='at the ends of so many equal phases of the training')

    def at(self, length: Length) -> list[int]:
        """When a training of this length leaves a snapshot. Raises ConfigError if it is too short."""
        return snapshot_times(length, **{key: getattr(self, key) for key in KEYS})


@dataclass(frozen=True, kw_only=True)
class SnapshotSettings(WhenSettings):
    """``teacher.snapshots``."""
    ema: bool = setting(False, help="keep the averaged weights of the run's EMAHook instead")


@dataclass(frozen=True, kw_only=True)
class TeacherSettings(TrainingSettings):
    """``teacher``: the network whose checkpoints teach, and how it is trained otherwise than the student."""
    model: dict | None = setting(None, help=(
        'mmpretrain classifier; or dict(cfg_path=FILE, ...), the `model` of that config with other settings '
        "merged over it; or a name of mmpretrain's model zoo, say 'resnet34_8xb32_in1k'"))
    snapshots: SnapshotSettings | None = setting(None, help='when to keep it while it is trained')
    trajectory: str | Path | list | tuple | None = setting(None, help=(
        'instead of a training: folder of snapshots that exist (trajectory.json, epoch_*.pth, '
        'iter_*.pth or best_*.pth), or several'))
    checkpoint: str | Path | dict | list | tuple | None = setting(None, help=(
        'instead of a training: a checkpoint that exists, file or URL, or several, which teach together. '
        'dict(file=..., model=...) is one of another network than `model`'))
    pretrained: bool = setting(False, help=(
        "instead of a training: the weights of mmpretrain's model zoo, where `model` is a name in it"))
    strict: bool = setting(True, help=(
        'False: of checkpoints that exist weights that do not fit are left out, and those that are missing '
        'are drawn; the log says which'))
    input_size: int | None = setting(None, at_least=1, help=(
        "height and width of the teacher's inputs: the student's are resized on the device"))
    class_map: bool | dict = setting(False, help=(
        'a teacher that exists has other classes than the student, or another order of them: those of one '
        "name are compared. A dict adds pairs, {'name in the data': 'name of the teacher'}"))

    def check(self, name: str) -> None:
        super().check(name)
        for hook in self.overrides.get('custom_hooks') or []:
            check_no_own_hook(f'{name}.custom_hooks', hook)
        if self.pretrained:
            raise ConfigError(f"{name}.pretrained=True takes the weights of mmpretrain's model zoo: give a "
                              f"name in it as {name}.model, say 'resnet34_8xb32_in1k', or {name}.checkpoint")
        if self.class_map is not False and self.is_trained:
            raise ConfigError(f'{name}.class_map={self.class_map!r} is for teachers that exist: one that '
                              "this run trains learns the student's classes; take it out")
        if not self.strict and self.is_trained:
            raise ConfigError(f'{name}.strict=False is for teachers that exist; take it out, or give '
                              f'{name}.checkpoint')
        if None not in (self.trajectory, self.checkpoint):
            raise ConfigError(f'{name}.trajectory and {name}.checkpoint: give one of them')
        for folder in as_list(self.trajectory):
            if not isinstance(folder, (str, Path)):
                raise ConfigError(f'{name}.trajectory={self.trajectory!r} should be a folder or several')
        for item in as_list(self.checkpoint):
            if not isinstance(item, (str, Path)) and not (isinstance(item, dict) and 'file' in item
                                                          and set(item) <= {'file', 'model'}):
                raise ConfigError(f'{name}.checkpoint: {item!r} should be a file, a URL, or '
                                  'dict(file=..., model=...)')
        if not self.is_trained and not self.sources:
            key = 'checkpoint' if self.trajectory is None else 'trajectory'
            raise ConfigError(f'{name}.{key} is empty: give one, or a list of several')
        for key in ('model', 'snapshots'):
            if self.is_trained and not self.given.get(key):
                raise ConfigError(f'{name}.{key} is missing: give {name}=dict(model=..., '
                                  f'snapshots=dict(interval=...)), or {name}=dict(trajectory=FOLDER) or '
                                  f'{name}=dict(model=..., checkpoint=FILE) to use a teacher that exists')

    def resizing(self, preprocessor: dict | None) -> dict | None:
        """A data preprocessor of the teacher, which makes inputs of its size."""
        if self.input_size is None:
            return preprocessor
        return resizing(preprocessor, self.input_size, 'teacher.input_size')

    @property
    def is_trained(self) -> bool:
        return self.trajectory is None and self.checkpoint is None

    @property
    def sources(self) -> list[tuple[str | Path, dict | None]]:
        """Of trajectories that exist: a folder, file or URL, and the network where it is known."""
        items = [{'model': self.model, **(item if isinstance(item, dict) else dict(file=item))}
                 for item in as_list(self.trajectory) or as_list(self.checkpoint)]
        return [(item['file'], item['model']) for item in items]


@dataclass(kw_only=True)
class TeacherResult(Result):
    """Where the snapshots are."""
    trajectories: list[str]  # folders
    epochs: list[int]  # of the first; iterations where its training counts these
    trained: bool  # by this run


def teacher_training(run: Run, settings: TeacherSettings) -> Config:
    """The student's training with the teacher's network and settings."""
    config = run.student_training()
    config.load_from = None
    if settings.model == config.model:  # with the student's seed it would begin with the student's weights
        shift_seed(config, SAME_NETWORK)
    model = {} if settings.model is None else dict(model=settings.model)
    config = apply_overrides(config, dict(settings.overrides, **model), 'teacher')
    if settings.input_size is not None:
        own = config.model if config.model.get('data_preprocessor') is not None else config
        own.data_preprocessor = settings.resizing(own.get('data_preprocessor'))
    return config


def _without_times(settings: dict[str, Any]) -> tuple[dict[str, Any], set[int]]:
    """Flat settings of the stage, and the times of the snapshots in them."""
    found = named_by_type(settings)
    lists = tuple(f'custom_hooks.SnapshotHook.{name}.' for name in LISTED.values())
    return found, {found.pop(key) for key in list(found) if key.startswith(lists)}


class TeacherStage(TrainingStage[TeacherResult]):
    """One training of the teacher.

    Args:
        selector: which snapshots it wants beside those of ``teacher.snapshots``.
        index: of the training, from 0; each has a seed of its own.
        held_out: images that it is not trained on.
    """
    Result = TeacherResult
    key = 'teacher'

    def __init__(self, settings: TeacherSettings, selector: Selector, index: int,
                 held_out: Probe | None) -> None:
        self.settings, self.selector, self.index, self.held_out = settings, selector, index, held_out
        self.name = numbered('teacher', index)

    def training(self, run: Run) -> Config:
        return exclude_held_out(shift_seed(teacher_training(run, self.settings), self.index), self.held_out)

    def length(self, run: Run) -> Length:
        return length_of(teacher_training(run, self.settings).train_cfg)

    def times(self, run: Run) -> list[int]:
        """Of its snapshots: those of ``teacher.snapshots``, and those that the selector wants."""
        length = self.length(run)
        wanted = self.selector.wanted(length, self.index)
        return sorted({*self.settings.snapshots.at(length), *(time for time in wanted if time <= length)})

    def folder(self, run: Run) -> Path:
        folder = run.folder(self.name)
        return folder if self.index == 0 else folder / self.name

    def config(self, run: Run) -> Config:
        config, info = self.training(run), {}
        checkpoint = config.setdefault('default_hooks', ConfigDict()).setdefault(
            'checkpoint', ConfigDict(type='CheckpointHook', interval=1))
        if checkpoint is not None:  # these are only to resume from, snapshots are kept
            checkpoint.max_keep_ckpts = KEPT_CHECKPOINTS
            checkpoint.pop('save_best', None)
        if self.held_out is not None:
            info['held_out'] = self.held_out.held_out_record
        hook = dict(type='ckd_mm.SnapshotHook', out_dir=str(self.folder(run)), info=info, overwrite=True,
                    **{LISTED[run.length.unit]: [1] if run.rehearses else self.times(run)},
                    ema=self.settings.snapshots.ema)
        return stage_config(run, config, self.name, [hook])

    def changes(self, run: Run, before: dict[str, Any], now: dict[str, Any]) -> Changes:
        """A snapshot that is no longer wanted is no change, nor one that is there."""
        (before, left), (now, wanted) = map(_without_times, (before, now))
        changes = super().changes(run, before, now)
        manifest = self.folder(run) / MANIFEST
        if wanted - left and manifest.is_file():
            left |= set(Trajectory.from_manifest(manifest).times)
        if wanted - left:
            changes.refused.append(f'the snapshots of {run.length.words} {sorted(wanted - left)} are wanted '
                                   f'now, it keeps those of {sorted(left)}')
        return changes

    def finish(self, run: Run, runner: StageRunner) -> TeacherResult:
        folder, trained, length = self.folder(run), finished(runner), self.length(run)
        times = [time for time in self.times(run) if time <= trained]
        if trained < length:
            times = sorted({*times, int(trained)})
            run.warn(f'The {self.title} was stopped early, after {trained} of {length.text}; the run '
                     f'goes on with its snapshots of {length.words} {times}')
        missing = sorted(set(times) - set(Trajectory.open(folder).times))
        if missing:
            raise CkdError(f'the teacher is trained, but snapshots of {length.words} {missing} are missing '
                           f'in {folder / MANIFEST}; remove {runner.work_dir}/last_checkpoint to train it '
                           'again')
        return TeacherResult(trajectories=[str(folder)], epochs=times, trained=True,
                             stage_seconds=runner.seconds)

    def trajectories(self, run: Run) -> list[Trajectory]:
        return [Trajectory.open(self.folder(run))]

    def rehearse(self, run: Run) -> str | None:
        return None if self.index else self.rehearse_training(run)[1]

    def checks(self, run: Run) -> Iterator[Check]:
        if self.name in run.done:
            yield Check('snapshots', lambda: on_main(lambda: self._check_left(run)))
        if self.index:
            return
        yield from super().checks(run)
        if numbered(self.name, self.selector.runs - 1) not in run.done:
            yield Check('disk', lambda: self._check_disk(run))

    def _check_left(self, run: Run) -> str:
        """Those that unfinished stages read are as it left them."""
        [trajectory], selected = self.trajectories(run), run.results.get('select')
        times = trajectory.times if selected is None else selected.by_trajectory[self.index]['epochs']
        needed = [] if self.name in run.over else [trajectory.at(time) for time in times]
        for snapshot in needed:
            snapshot.check_file()
        return f'{len(needed)} that are still needed are whole'

    def _check_disk(self, run: Run) -> str:
        """Room for the snapshots that are still to come, and for two training checkpoints with momentum, each
        of twice the weights."""
        network = run.network('teacher', model_config_of(self.training(run)))
        weights = sum(value.numel() * value.element_size() for value in network.state_dict().values())
        snapshots = self.selector.runs * len(self.times(run))
        left = snapshots - sum(len(list(run.work_dir.glob(f'{folder}snapshots/*.pth')))
                               for folder in ('', 'teacher_*/'))
        return check_disk(run.work_dir, weights * (max(left, 0) + 4 * self.selector.runs),
                          f'the {snapshots} snapshots of {weights / 2**20:.0f} MiB',
                          'keep fewer snapshots (teacher.snapshots)')

    def report(self, run: Run, result: TeacherResult) -> Section:
        return Section(curves={} if self.index else {'teacher': read_curve(run.work_dir / self.name)})
