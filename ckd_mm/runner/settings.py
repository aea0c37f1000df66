"""What a checkpoint-distillation config says, checked, and the ordinary mmengine config of each stage.

The config *is* the student's; beside it stand the keys of :data:`OWN_KEYS`:

``teacher``
    ``model``: the teacher network, or the file that describes it (:func:`ckd_mm.runner.model_files.resolve_model_files`),
    ``snapshots``: when to keep it (:func:`ckd_mm.trajectory.snapshot_epochs`), and any mmengine key to train it otherwise than the
    student, merged over the student's as a derived config would be.
    Or ``trajectory``: a folder (or several) of snapshots that exist already; then nothing is trained. A selector that wants
    several trainings (``ensemble``) gets them, with seeds ``randomness.seed``, ``randomness.seed + 1``, ...
``probe``
    Settings of :class:`ckd_mm.infoplane.probe.Probe`; None to leave the information plane out.
``selector``
    Name or config of a selector.
``distill``
    ``tau``, ``aggregation``, ``teacher_weights``, ``standardize``, ``ce_weight``, ``kd_weight``, ``stop_epoch``,
    ``schedule``, ``ce_weight_after_stop``, ``distiller``. ``schedule`` is a hook or a list of hooks, by name:
    ``dict(type='ckd_mm.AnnealDistillationHook', begin=10, end=60)``, ``ckd_mm.StopWhenOvertakenHook``,
    ``ckd_mm.ProgressiveTeacherHook`` (the chosen snapshots teach one after another); ``stop_epoch=e`` is short for
    ``ckd_mm.StopDistillationHook``.
``student_alone``
    Also train the student without a teacher, for comparison.
``student_snapshots``
    When to keep the student while it learns, in the words of ``teacher.snapshots``: ``student/trajectory.json`` and, of the
    student without a teacher, ``student_alone/trajectory.json``.
"""

import copy
import difflib
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from mmengine.config import Config, ConfigDict
from mmengine.runner import find_latest_checkpoint
from mmengine.runner.checkpoint import _load_checkpoint

from ..errors import ConfigError
from ..hooks.schedule_hook import schedule_names
from ..infoplane.images import held_out_part
from ..infoplane.probe import Probe, held_out_record
from ..models.losses.cohort_kd_loss import CohortKDLoss, check_weight
from ..selection import Selector, build_selector
from ..trajectory import Snapshot, Trajectory, snapshot_epochs
from .model_files import resolve_model_files
from .schedule import DistillationSchedule

OWN_KEYS = ('runner_type', 'teacher', 'probe', 'selector', 'distill', 'student_alone', 'student_snapshots')
TEACHER_KEYS = ('model', 'trajectory', 'snapshots')
RUNNER_KEYS = ('train_dataloader', 'val_dataloader', 'train_cfg', 'val_cfg', 'optim_wrapper', 'param_scheduler', 'val_evaluator',
               'default_hooks', 'custom_hooks', 'data_preprocessor', 'load_from', 'randomness', 'auto_scale_lr', 'sync_bn',
               'find_unused_parameters', 'model_wrapper_cfg', 'compile', 'log_processor', 'env_cfg')
LOSS_KEYS = ('tau', 'aggregation', 'teacher_weights', 'standardize')
DISTILL_KEYS = LOSS_KEYS + ('ce_weight', 'kd_weight', 'stop_epoch', 'schedule', 'ce_weight_after_stop', 'distiller')
KEPT_CHECKPOINTS = 2  # mmengine deletes the old checkpoint before it writes the new one: with 1 a kill in between loses both


def _known(name: str, found: Dict, allowed: Sequence[str]) -> None:
    unknown = [key for key in found if key not in allowed and not key.startswith('_')]
    if unknown:
        raise ConfigError(f'{name}: unknown key {unknown[0]!r}; known are {", ".join(allowed)}')


class DistillationPlan:
    """A config taken apart.

    Args:
        config: whole, with ``work_dir``.

    Raises:
        ConfigError: a setting cannot work; the message names it.
    """

    def __init__(self, config: Config) -> None:
        resolve_model_files(config)
        self.config = config
        for key in config:
            meant = difflib.get_close_matches(key, OWN_KEYS, n=1, cutoff=0.8)
            if meant and key not in OWN_KEYS:  # a config may hold any names of its own, but hardly these
                raise ConfigError(f'{key} is no key of a distillation config; did you mean {meant[0]}?')
        self.work_dir = Path(config.work_dir)
        self.teacher: Dict[str, Any] = dict(config.get('teacher') or {})
        _known('teacher', self.teacher, TEACHER_KEYS + RUNNER_KEYS)
        if 'train_cfg' not in config or 'max_epochs' not in config.train_cfg:
            raise ConfigError('train_cfg.max_epochs is missing: the student is trained by epochs')
        self.student_epochs: int = config.train_cfg.max_epochs
        self.selector: Selector = build_selector(config.get('selector', 'last'))
        self._read_distill(config.get('distill') or {})
        self._given: Optional[List[Trajectory]] = None
        self._read_teacher()
        self._read_probe()
        self.schedule = DistillationSchedule(config.get('distill') or {}, self.student_epochs, self.plain(), self.probe)
        self.schedule.check_folders(self.trajectory_folders)
        self._read_student_snapshots()
        self._check_hooks()
        if self.selector.needs_plane or self.selector.needs_images:
            self.schedule.check(1)  # such a selector takes long, and chooses the best snapshot of a trajectory
        if self.trains_teacher:
            # of runs yet to come the epochs are known: better now than after training them
            self.selector.check([self.snapshot_epochs_of(run) for run in range(self.runs)], [self.teacher_epochs] * self.runs)
            chosen = 1  # of each training, by every selector that looks at more than epochs
            if not (self.selector.needs_plane or self.selector.needs_images or self.selector.needs_student):
                chosen = len(self.selector.epochs(self.snapshot_epochs_of(0), self.teacher_epochs))
                self.schedule.check(chosen)
            self._check_teacher_weights(chosen * self.runs)

    def _read_distill(self, distill: Dict) -> None:
        _known('distill', distill, DISTILL_KEYS)
        self.kd_loss = dict(type='ckd_mm.CohortKDLoss', **{key: distill[key] for key in LOSS_KEYS if key in distill})
        CohortKDLoss(**{key: value for key, value in self.kd_loss.items() if key != 'type'})
        self.weights = {key: distill.get(key, 1.0) for key in ('ce_weight', 'kd_weight', 'ce_weight_after_stop')}
        for name, value in self.weights.items():
            check_weight(f'distill.{name}', value)
        self.distiller: Optional[Dict] = distill.get('distiller')
        self.stop_epoch: Optional[int] = distill.get('stop_epoch')
        if self.stop_epoch is not None and (not isinstance(self.stop_epoch, int) or not 0 <= self.stop_epoch <= self.student_epochs):
            raise ConfigError(f'distill.stop_epoch={self.stop_epoch!r} should be a whole number of epochs, 0 to '
                              f'{self.student_epochs} (train_cfg.max_epochs), or None to distil to the end')

    def _check_teacher_weights(self, teachers: int) -> None:
        weights = self.kd_loss.get('teacher_weights')
        if weights is not None and len(weights) != teachers:
            raise ConfigError(f'distill.teacher_weights={list(weights)} should be {teachers} numbers, one for each teacher')

    def _read_teacher(self) -> None:
        self.trains_teacher = 'trajectory' not in self.teacher
        if self.trains_teacher:
            for key in ('model', 'snapshots'):
                if not self.teacher.get(key):
                    raise ConfigError(f'teacher.{key} is missing: give teacher=dict(model=..., snapshots=dict(interval=...)), or '
                                      'teacher=dict(trajectory=FOLDER) to use snapshots that exist')
            self.teacher_epochs: int = self.merged_teacher().train_cfg.max_epochs
            schedule = {key: value for key, value in self.teacher['snapshots'].items() if key != 'ema'}
            _known('teacher.snapshots', schedule, ('interval', 'epochs', 'phases'))
            self._snapshot_epochs = snapshot_epochs(self.teacher_epochs, **schedule)
            self.trajectory_folders = [self.work_dir if run == 0 else self.work_dir / self.teacher_stage(run) for run in range(self.runs)]
        else:
            folders = self.teacher['trajectory']
            self.trajectory_folders = [Path(folder) for folder in ([folders] if isinstance(folders, (str, Path)) else folders)]
            if not self.trajectory_folders:
                raise ConfigError('teacher.trajectory is empty: give a folder, or a list of folders')

    def _read_probe(self) -> None:
        settings = self.config.get('probe', dict() if self.selector.needs_plane else None)
        self.measures_plane = settings is not None
        if settings is None and self.selector.needs_images:
            settings = dict()  # of its images; the plane itself was not asked for
        if settings is None and self.selector.needs_plane:
            raise ConfigError(f'probe=None, but the selector {self.config.get("selector")} needs the information plane; give a probe, '
                              'or choose another selector')
        self.probe: Optional[Probe] = None if settings is None else Probe(self.plain(), **settings)

    def _read_student_snapshots(self) -> None:
        self.student_snapshots: Optional[Dict] = self.config.get('student_snapshots')
        if self.student_snapshots is None:
            return
        if not isinstance(self.student_snapshots, dict):
            raise ConfigError(f'student_snapshots={self.student_snapshots!r} should be a dict, say dict(interval=10)')
        _known('student_snapshots', self.student_snapshots, ('interval', 'epochs', 'phases'))
        try:
            snapshot_epochs(self.student_epochs, **self.student_snapshots)
        except ConfigError as error:
            raise ConfigError(f'student_{error}') from error

    def _check_hooks(self) -> None:
        for name, hooks in (('custom_hooks', self.config.get('custom_hooks')), ('teacher.custom_hooks', self.teacher.get('custom_hooks'))):
            for hook in hooks or []:
                if _hook_name(hook) in schedule_names():
                    raise ConfigError(f'{name}: {_hook_name(hook)} belongs into distill.schedule; every stage would inherit it')
                if _hook_name(hook) == 'SnapshotHook' or (_hook_name(hook) == 'InfoPlaneHook' and name == 'custom_hooks'):
                    raise ConfigError(f'{name}: {_hook_name(hook)} stands for what `teacher.snapshots` and `probe` ask for in this config, '
                                      'and every stage would inherit it; take it out')

    # ------------------------------------------------------------ configs of the stages
    @property
    def name(self) -> str:
        return Path(self.config.filename).stem if self.config.filename else 'ckd_mm'

    @property
    def initial_weights(self) -> Optional[str]:
        """The config's ``load_from``, from which the student starts; ``--resume`` clears it, or puts a checkpoint in its place."""
        if not self.config.get('resume'):
            return self.config.get('load_from')
        return Config.fromfile(self.config.filename).get('load_from') if self.config.filename else None

    def plain(self) -> Config:
        """The student's own mmengine config, as if there were no distillation."""
        config = copy.deepcopy(self.config)
        for key in OWN_KEYS:
            config.pop(key, None)
        return config

    def merged_teacher(self) -> Config:
        """The student's config with what the teacher says otherwise."""
        config = self.plain()
        config.load_from = None
        for key, value in self.teacher.items():
            if key == 'model':
                config.model = copy.deepcopy(value)
            elif key in TEACHER_KEYS:
                continue
            elif isinstance(value, dict) and isinstance(config.get(key), dict):
                config.merge_from_dict({key: copy.deepcopy(value)})
            else:
                config[key] = copy.deepcopy(value)
        return config

    @property
    def runs(self) -> int:
        """How often the teacher is trained, each time with another seed."""
        return self.selector.runs if self.trains_teacher else 0

    @staticmethod
    def teacher_stage(run: int) -> str:
        """Name of the stage of the ``run``-th teacher, counted from 0."""
        return 'teacher' if run == 0 else f'teacher_{run + 1}'

    def snapshot_epochs_of(self, run: int) -> List[int]:
        """When the ``run``-th teacher leaves snapshots: as ``teacher.snapshots`` says, and where the selector wants them."""
        wanted = self.selector.wanted(self.teacher_epochs, run)
        return sorted({*self._snapshot_epochs, *(epoch for epoch in wanted if epoch <= self.teacher_epochs)})

    def teacher_config(self, run: int = 0) -> Config:
        config = self.merged_teacher()
        if run > 0 and (config.get('randomness') or {}).get('seed') is not None:
            config.randomness.seed += run
        info = {}
        kept = self.schedule.comparison or (self.probe if self.probe is not None and self.probe.probe_split == 'held_out' else None)
        if kept is not None:
            config.train_dataloader.dataset = ConfigDict(
                held_out_part(config.train_dataloader.dataset, kept.held_out, kept.seed, 'rest'))
            info['held_out'] = held_out_record(kept.held_out, kept.seed)
        hooks = config.setdefault('default_hooks', ConfigDict())
        checkpoint = hooks.setdefault('checkpoint', ConfigDict(type='CheckpointHook', interval=1))
        checkpoint.max_keep_ckpts = KEPT_CHECKPOINTS  # the snapshots are kept, these only to resume from
        checkpoint.pop('save_best', None)
        hooks = [dict(type='ckd_mm.SnapshotHook', out_dir=str(self.trajectory_folders[run]), info=info, overwrite=True,
                      epochs=self.snapshot_epochs_of(run), ema=self.teacher['snapshots'].get('ema', False))]
        return self._as_stage(config, self.teacher_stage(run), hooks)

    def _student_training(self) -> Config:
        """The student's own config, trained without the images on which it is compared with its teacher, if it is."""
        config, kept = self.plain(), self.schedule.comparison
        if kept is not None:
            config.train_dataloader.dataset = ConfigDict(
                held_out_part(config.train_dataloader.dataset, kept.held_out, kept.seed, 'rest'))
        return config

    def student_config(self, snapshots: List[Dict], scheduled: bool = True) -> Config:
        """
        Args:
            snapshots: the teachers, as :class:`ckd_mm.models.SnapshotEnsemble` takes them.
            scheduled: False: distil to the end from all of them alike, as short trials do, and train on all images.
        """
        kd_loss = dict(self.kd_loss)
        if scheduled:
            self._check_teacher_weights(len(snapshots))
            self.schedule.check(len(snapshots))
        else:
            kd_loss.pop('teacher_weights', None)
        config = self._student_training() if scheduled else self.plain()
        student = copy.deepcopy(config.model)
        if config.get('data_preprocessor') is not None:
            student.setdefault('data_preprocessor', copy.deepcopy(config.data_preprocessor))
        config.model = ConfigDict(
            type='ckd_mm.CheckpointDistill', student=student, kd_loss=kd_loss, distiller=self.distiller, **self.weights,
            cohort=dict(type='ckd_mm.SnapshotEnsemble', snapshots=snapshots, model=self.teacher.get('model')),
            compile=config.get('compile') or False)
        config.compile = None
        hooks = copy.deepcopy(self.schedule.configs) + self._student_snapshot_hooks() if scheduled else []
        return self._as_stage(config, 'student', hooks)

    def student_alone_config(self) -> Config:
        return self._as_stage(self._student_training(), 'student_alone', self._student_snapshot_hooks())

    def _student_snapshot_hooks(self) -> List[Dict]:
        if self.student_snapshots is None:
            return []
        info, training = {}, self._student_training().train_dataloader.dataset
        if training.get('part') == 'rest':  # as of ckd_mm.infoplane.images.held_out_part
            info['held_out'] = held_out_record(training.held_out, training.seed)
        return [dict(type='ckd_mm.SnapshotHook', info=info, overwrite=True, **self.student_snapshots)]

    def _as_stage(self, config: Config, stage: str, hooks: List[Dict]) -> Config:
        config.work_dir = str(self.work_dir / stage)
        config.experiment_name = f'{self.work_dir.name}_{stage}'  # mmengine mixes up the logs of runs of one name that start together
        custom = list(config.get('custom_hooks') or [])
        if not any(_hook_name(hook) == 'SyncBuffersHook' for hook in custom):
            # each process has its own BatchNorm statistics: averaged, those that are evaluated are also those that are written. It does
            # nothing in one process, and is there too so that a run may go on with another number of them
            custom = [dict(type='SyncBuffersHook')] + custom
        config.custom_hooks = custom + hooks + [dict(type='ckd_mm.FiniteLossHook'), dict(type='ckd_mm.StageStateHook')]
        checkpoint = (config.get('default_hooks') or {}).get('checkpoint')
        if checkpoint and checkpoint.get('max_keep_ckpts') == 1:
            checkpoint['max_keep_ckpts'] = KEPT_CHECKPOINTS
        if config.train_cfg.get('by_epoch') and 'type' not in config.train_cfg:
            del config.train_cfg['by_epoch']
            config.train_cfg.type = 'ckd_mm.ResumableEpochLoop'
        # the final accuracy is measured by the distillation runner itself, once
        for key in ('test_dataloader', 'test_cfg', 'test_evaluator'):
            config[key] = None
        return config

    # ------------------------------------------------------------ trajectories
    def open_trajectories(self) -> List[Trajectory]:
        if self.trains_teacher:
            return [Trajectory.open(folder) for folder in self.trajectory_folders]
        if self._given is None:  # to know a folder of checkpoints means to read one of them: once is enough
            model = self.teacher.get('model')
            self._given = [Trajectory.open(folder, None if model is None else dict(model)) for folder in self.trajectory_folders]
            statistics = self.merged_teacher().get('data_preprocessor')
            for trajectory in self._given:
                trajectory.snapshots = [_with_statistics(snapshot, statistics) for snapshot in trajectory]
            self.schedule.check_given(self._given)
        return self._given

    def teacher_is_gone(self) -> bool:
        """Whether this run resumes a student that has already stopped distilling, so that no teacher is needed."""
        if not self.config.get('resume') or not self.schedule.stops:
            return False
        latest = self.config.get('load_from') or find_latest_checkpoint(str(self.work_dir / 'student'))
        return latest is not None and self.schedule.is_over(_load_checkpoint(latest, map_location='cpu'))


def _with_statistics(snapshot: Snapshot, statistics: Optional[Dict]) -> Snapshot:
    """A snapshot that does not say how its inputs were normalised was trained as the config says."""
    if snapshot.model is None or statistics is None or snapshot.model.get('data_preprocessor') is not None:
        return snapshot
    return replace(snapshot, model=dict(snapshot.model, data_preprocessor=dict(statistics)))


def as_teacher(trajectory: Trajectory, snapshot: Snapshot) -> Dict[str, Any]:
    """A snapshot as a config of :class:`ckd_mm.models.SnapshotEnsemble` names it."""
    teacher = dict(trajectory=str(trajectory.folder), epoch=snapshot.epoch)
    return teacher if trajectory.has_manifest else dict(teacher, model=snapshot.model)


def _hook_name(hook: Any) -> str:
    return str(hook.get('type') if isinstance(hook, dict) else type(hook).__name__).split('.')[-1]
