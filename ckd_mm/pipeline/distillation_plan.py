"""Distillation from the checkpoints of a teacher, taken apart."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.runner.checkpoint import _load_checkpoint

from ..errors import CkdError, ConfigError, SnapshotError
from ..hooks.anneal_distillation_hook import AnnealDistillationHook
from ..hooks.schedule_hook import check_schedules
from ..infoplane.probe import Probe, held_out_record
from ..losses.cohort_kd_loss import CohortKDLoss, check_weight
from ..registry import MODELS
from ..selection import SelectionContext, Selector, build_selector
from ..targets import TargetFile
from ..teachers.snapshot_ensemble import find_snapshot
from ..trajectory import Snapshot, Trajectory, model_config_of, snapshot_epochs
from .links import STUDENT, Link, generation_stages, read_links
from .schedule import DistillationSchedule
from .settings import KEPT_CHECKPOINTS, RUNNER_KEYS, changes_of, merged, require_known, with_seed
from .stage_log import StageLog
from .stage_runner import latest_checkpoint
from .student_plan import StudentPlan, without
from .target_cache import TargetCache, require_plain_images, views_of

TEACHER_KEYS = ('model', 'trajectory', 'snapshots')
LOSS_KEYS = ('tau', 'aggregation', 'teacher_weights', 'standardize')
DISTILL_KEYS = LOSS_KEYS + ('loss', 'ce_weight', 'kd_weight', 'reduction', 'stop_epoch', 'schedule',
                            'ce_weight_after_stop', 'distiller', 'cache', 'fast_teachers')
HEAD_KEYS = ('out_indices', 'kind', 'grid')
SAME_NETWORK = 1000  # added to the seed of a teacher that has the student's own network
HEADS, HINT = 'heads.pth', 'hint.pth'  # what these stages leave in the work_dir
TARGETS = 'targets'


class DistillationPlan(StudentPlan):
    """A config with a ``teacher``.

    Args:
        config: whole, with ``work_dir``.

    Raises:
        ConfigError: a setting cannot work; the message names it.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.teacher: dict[str, Any] = dict(config.get('teacher') or {})
        require_known('teacher', self.teacher, TEACHER_KEYS + RUNNER_KEYS)
        self._check_hooks('teacher.custom_hooks', self.teacher.get('custom_hooks'))
        self.selector: Selector = build_selector(config.get('selector', 'last'))
        self._read_distill(config.get('distill') or {})
        self._given: list[Trajectory] | None = None
        self._read_teacher()
        self._read_probe()
        self.schedule = DistillationSchedule(
            config.get('distill') or {}, self.student_epochs, self.plain(), self.probe)
        self.schedule.check_folders(self.trajectory_folders)
        self._read_heads()
        self._read_links()
        self._check_cache()
        if self.selector.needs_plane or self.selector.needs_images:
            self.schedule.check(
                1)  # such a selector takes long, and chooses the best snapshot of a trajectory
        self._gone: tuple[str | None, bool] = (None, False)
        if self.trains_teacher:
            # of runs yet to come the epochs are known: better now than after training them
            self.selector.check([self.snapshot_epochs_of(run) for run in range(self.runs)],
                                [self.teacher_epochs] * self.runs)
            if self._selects_by_epoch:
                self.schedule.check(self.expected_teachers() // self.runs)
            self.check_chosen(self.expected_teachers())

    def _read_distill(self, distill: dict) -> None:
        require_known('distill', distill, DISTILL_KEYS)
        self.kd_loss = self._read_loss(distill)
        self.weights = {
            key: distill.get(key, 1.0)
            for key in ('ce_weight', 'kd_weight', 'ce_weight_after_stop')
        }
        for name, value in self.weights.items():
            check_weight(f'distill.{name}', value)
        self.fast_teachers: bool = distill.get('fast_teachers', True)
        if not isinstance(self.fast_teachers, bool):
            raise ConfigError(f'distill.fast_teachers={self.fast_teachers!r} should be True or False')
        self.reduction: str = distill.get('reduction', 'mean')
        if self.reduction not in ('mean', 'sum'):
            raise ConfigError(f"distill.reduction={self.reduction!r} should be 'mean' (over the teachers, "
                              "as in the papers) or 'sum'")
        self.distiller: dict | None = distill.get('distiller')
        self.cache: TargetCache | None = None if distill.get('cache') is None else TargetCache(
            distill['cache'])
        self.stop_epoch: int | None = distill.get('stop_epoch')
        if self.stop_epoch is not None and (not isinstance(self.stop_epoch, int)
                                            or not 0 <= self.stop_epoch <= self.student_epochs):
            raise ConfigError(f'distill.stop_epoch={self.stop_epoch!r} should be a whole number of epochs, '
                              '0 to '
                              f'{self.student_epochs} (train_cfg.max_epochs), or None to distil to the end')

    def _read_loss(self, distill: dict) -> dict:
        if distill.get('loss') is None:
            loss = dict(type='ckd_mm.CohortKDLoss', **{key: distill[key]
                           for key in LOSS_KEYS if key in distill})
            CohortKDLoss(**{key: value for key, value in loss.items() if key != 'type'})
            return loss
        loss = distill['loss']
        both = [key for key in LOSS_KEYS if distill.get(key) is not None]
        if both:
            raise ConfigError(f'distill.{both[0]}={distill[both[0]]!r} is a setting of the usual loss, and '
                              'distill.loss names another: '
                              f'say it there, and take distill.{both[0]} out (or set it to None)')
        try:
            MODELS.build(copy.deepcopy(loss))
        except Exception as error:  # an unknown type, a setting that it does not take, ...
            raise ConfigError(
                f'distill.loss={loss!r} cannot be built: {type(error).__name__}: {error}') from error
        return dict(loss)

    @property
    def needs_labels(self) -> bool:
        return getattr(MODELS.build(copy.deepcopy(self.kd_loss)), 'needs_labels', False)

    @property
    def _selects_by_epoch(self) -> bool:
        return not (self.selector.needs_plane or self.selector.needs_images or self.selector.needs_student)

    def expected_teachers(self) -> int:
        """How many snapshots will be chosen: the epochs tell, and a selector that looks at more chooses one
        of each training."""
        if self.trains_teacher:
            return self.runs * (len(self.selector.epochs(self.snapshot_epochs_of(0), self.teacher_epochs))
                                if self._selects_by_epoch else 1)
        given = self.open_trajectories()
        if not self._selects_by_epoch:
            return len(given)
        return sum(
            len(selection.snapshots)
            for selection in self.selector.select_all(given, [SelectionContext()] * len(given)))

    def check_chosen(self, chosen: int) -> None:
        """
        Args:
            chosen: number of snapshots.

        Raises:
            ConfigError: so many cannot teach.
        """
        if self.heads is not None and chosen != 1:
            raise ConfigError('heads: they are mounted on one snapshot, but the selector '
                              f'{self.config.get("selector")} chooses {chosen}')
        teachers, weights = self._members(chosen), self.kd_loss.get('teacher_weights')
        if None not in (weights, teachers) and len(weights) != teachers:
            raise ConfigError(f'distill.teacher_weights={list(weights)} should be {teachers} numbers, one '
                              'for each teacher')

    def _members(self, chosen: int) -> int | None:
        """How many teach the first of the links; None where only the file of the heads knows."""
        if self.heads is None:
            return chosen
        if self.heads.get('use') is not None:
            return len(self.heads['use'])
        return None if 'file' in self.heads else len(self.heads['out_indices']) + 1

    def _read_heads(self) -> None:
        self.heads: dict | None = None
        if self.config.get('heads') is None:
            return
        require_known('heads', self.config.heads, HEAD_KEYS + ('file', 'use') + RUNNER_KEYS)
        # a command line can set a key to None, but not take it out
        own = HEAD_KEYS + ('file', 'use')
        self.heads = {
            key: value
            for key, value in self.config.heads.items() if value is not None or key not in own
        }
        if ('file' in self.heads) == ('out_indices' in self.heads):
            raise ConfigError('heads: give either out_indices=(...), the stages of the teacher that get a '
                              'classifier head, or file=..., '
                              'the heads.pth of an earlier run; not ' +
                              ('both' if 'file' in self.heads else 'none of them'))
        if 'file' in self.heads:
            if not Path(self.heads['file']).is_file():
                raise ConfigError(f'heads.file={self.heads["file"]!r} does not exist; name the heads.pth of '
                                  'a run with heads.out_indices')
            if self.trains_teacher:
                raise ConfigError(f'heads.file={self.heads["file"]!r} belongs to a teacher that is trained '
                                  'already: name it with '
                                  'teacher.trajectory, or give heads.out_indices to train heads for the new '
                                  'one')
        elif not isinstance(self.heads['out_indices'], (list, tuple)) or not self.heads['out_indices']:
            raise ConfigError(f'heads.out_indices={self.heads["out_indices"]!r} should list at least one '
                              'stage of the teacher, '
                              'say (0, 1, 2)')
        use = self.heads.get('use')
        if use is not None and (not isinstance(use, (list, tuple)) or not use):
            raise ConfigError(f"heads.use={use!r} should list who teaches, say ['teacher', 0, 2], or be "
                              "None for all")
        if self.schedule.progressive or len(self.trajectory_folders) > 1:
            raise ConfigError('heads: they are mounted on one snapshot, and several teach; take ' + (
                'ProgressiveTeacherHook' if self.schedule.progressive else 'all but one trajectory') + ' out')

    def _read_links(self) -> None:
        self.links: list[Link] = read_links(self.config, super()._student_training())
        for link in self.links:  # whatever images an assistant has of its own
            without(link.config, self.schedule.comparison)
        self.generations: list[str] = generation_stages(self.links, self.config.get('generations'))
        self.hint: dict | None = self.config.get('hint')
        if self.hint is not None:
            require_known('hint', self.hint, ('distiller', ) + RUNNER_KEYS)
            if not isinstance(self.hint.get('distiller'), dict):
                raise ConfigError('hint.distiller is missing: give the config of an '
                                  'mmrazor.ConfigurableDistiller, whose losses are the '
                                  'hints')
            if len(self.links) > 1:
                raise ConfigError('hint: it is a stage of one student; it cannot be combined with '
                                  'assistants or generations')
        if len(self.links) == 1:
            return
        if self.schedule.progressive:
            raise ConfigError('distill.schedule: ProgressiveTeacherHook walks along one trajectory; it '
                              'cannot be combined with assistants '
                              'or generations, which learn from one network each')
        for link in self.links[:-1]:
            try:
                check_schedules(self.schedule.hooks, link.config.train_cfg.max_epochs, 1)
            except ConfigError as error:
                raise ConfigError(
                    f'{link.what}, {link.config.train_cfg.max_epochs} epochs: {error}') from error

    def _check_cache(self) -> None:
        if self.cache is None:
            return
        if self.distiller is not None:
            raise ConfigError('distill.cache: a distiller reads the features of teachers that are asked in '
                              'every step, and what is kept '
                              'are their targets; take distill.cache or distill.distiller out')
        if self.schedule.progressive:
            raise ConfigError('distill.cache: what is kept is the target of one cohort, and '
                              'ProgressiveTeacherHook changes it; take '
                              'distill.cache or the hook out')
        if not self.targets_can_be_kept:
            raise ConfigError(f'distill.cache: {self.kd_loss["type"]} has no method `target` (and property '
                              '`target_settings`), so what it '
                              'needs of the teachers cannot be kept; take distill.cache out, or choose '
                              'ckd_mm.CohortKDLoss')
        if self.weights['kd_weight'] == 0 and not any(
                isinstance(hook, AnnealDistillationHook) for hook in self.schedule.hooks):
            raise ConfigError('distill.cache: with distill.kd_weight=0 no teacher is asked, so there is '
                              'nothing to keep; take it out')
        if self.cache.file is not None and (self.trains_teacher or len(self.links) > 1):
            raise ConfigError(f'distill.cache.file={str(self.cache.file)!r} is of teachers that are trained '
                              'already: ' +
                              ('name them with teacher.trajectory, or leave distill.cache.file out' if self.
                               trains_teacher else 'leave it out, or assistants and generations'))
        for link in self.links:
            require_plain_images(link.config)
            self.cache.show_views(copy.deepcopy(link.config))
            epochs = check_schedules(self.schedule.hooks, link.config.train_cfg.max_epochs)
            if self.cache.views > epochs:
                raise ConfigError(f'distill.cache.views={self.cache.views}: the {link.what} learns from its '
                                  f'teachers for {epochs} epochs, '
                                  f'so the views after the first {epochs} would never be seen; the fewer '
                                  'views, the less the teachers work')

    @property
    def targets_can_be_kept(self) -> bool:
        """Whether the loss of logits says what it needs of the teachers."""
        loss = MODELS.build(copy.deepcopy(self.kd_loss))
        return hasattr(loss, 'target') and hasattr(loss, 'target_settings')

    def targets_stage(self, link: Link) -> str:
        """Name of the stage before a link's own, in which its teachers' targets are made."""
        return TARGETS if link.stage == STUDENT else f'{link.stage}_{TARGETS}'

    def targets_folder(self, link: Link) -> Path:
        return self.cache.file or self.work_dir / self.targets_stage(link)

    def _read_teacher(self) -> None:
        self.trains_teacher = 'trajectory' not in self.teacher
        if self.trains_teacher:
            for key in ('model', 'snapshots'):
                if not self.teacher.get(key):
                    raise ConfigError(f'teacher.{key} is missing: give teacher=dict(model=..., '
                                      'snapshots=dict(interval=...)), or '
                                      'teacher=dict(trajectory=FOLDER) to use snapshots that exist')
            self.teacher_epochs: int = self.merged_teacher().train_cfg.max_epochs
            schedule = {key: value for key, value in self.teacher['snapshots'].items() if key != 'ema'}
            require_known('teacher.snapshots', schedule, ('interval', 'epochs', 'phases'))
            self._snapshot_epochs = snapshot_epochs(self.teacher_epochs, **schedule)
            self.trajectory_folders = [
                self.work_dir if run == 0 else self.work_dir / self.teacher_stage(run)
                for run in range(self.runs)
            ]
        else:
            folders = self.teacher['trajectory']
            self.trajectory_folders = [
                Path(folder) for folder in ([folders] if isinstance(folders, (str, Path)) else folders)
            ]
            if not self.trajectory_folders:
                raise ConfigError('teacher.trajectory is empty: give a folder, or a list of folders')

    def _read_probe(self) -> None:
        settings = self.config.get('probe', dict() if self.selector.needs_plane else None)
        self.measures_plane = settings is not None
        if settings is None and self.selector.needs_images:
            settings = dict()  # of its images; the plane itself was not asked for
        if settings is None and self.selector.needs_plane:
            raise ConfigError(f'probe=None, but the selector {self.config.get("selector")} needs the '
                              'information plane; give a probe, '
                              'or choose another selector')
        self.probe: Probe | None = None if settings is None else Probe(self.plain(), **settings)

    # ------------------------------------------------------------ configs of the stages
    def merged_teacher(self) -> Config:
        """The student's config with what the teacher says otherwise."""
        config = self.plain()
        config.load_from = None
        if self.teacher.get(
                'model') == config.model:  # with the student's seed it would begin with the student's weights
            with_seed(config, SAME_NETWORK)
        return merged(config, self.teacher)

    @property
    def runs(self) -> int:
        """How often the teacher is trained, each time with another seed."""
        return self.selector.runs if self.trains_teacher else 0

    @staticmethod
    def teacher_stage(run: int) -> str:
        """Name of the stage of the ``run``-th teacher, counted from 0."""
        return 'teacher' if run == 0 else f'teacher_{run + 1}'

    def snapshot_epochs_of(self, run: int) -> list[int]:
        """When the ``run``-th teacher leaves snapshots: as ``teacher.snapshots`` says, and where the selector
        wants them."""
        wanted = self.selector.wanted(self.teacher_epochs, run)
        return sorted({*self._snapshot_epochs, *(epoch for epoch in wanted if epoch <= self.teacher_epochs)})

    def teacher_config(self, run: int = 0) -> Config:
        kept = self._held_out
        config = without(with_seed(self.merged_teacher(), run), kept)
        info = {} if kept is None else dict(held_out=held_out_record(kept.held_out, kept.seed))
        hooks = config.setdefault('default_hooks', ConfigDict())
        checkpoint = hooks.setdefault('checkpoint', ConfigDict(type='CheckpointHook', interval=1))
        checkpoint.max_keep_ckpts = KEPT_CHECKPOINTS  # the snapshots are kept, these only to resume from
        checkpoint.pop('save_best', None)
        hooks = [
            dict(type='ckd_mm.SnapshotHook', out_dir=str(self.trajectory_folders[run]), info=info,
                 overwrite=True, epochs=self.snapshot_epochs_of(run),
                 ema=self.teacher['snapshots'].get('ema', False))
        ]
        return self._as_stage(config, self.teacher_stage(run), hooks)

    @property
    def _held_out(self) -> Probe | None:
        """Which images the teacher must not see."""
        return self.schedule.comparison or (self.probe if self.probe is not None
                                            and self.probe.probe_split == 'held_out' else None)

    def head_training(self) -> Config:
        """How heads are trained: as the teacher, but for what they say otherwise; on all images."""
        return merged(self.merged_teacher(), self.heads)

    def heads_config(self, teacher: dict, input_shape: Sequence[int]) -> Config:
        """Training of classifier heads on a frozen snapshot, on the images of the teacher.

        Args:
            teacher: the snapshot, as :func:`as_teacher` names it.
            input_shape: (C, H, W) of an image.
        """
        config = without(self.head_training(), self._held_out)
        config.model = ConfigDict(type='ckd_mm.HeadTraining', snapshot=teacher,
                                  model=self.teacher.get('model'), input_shape=tuple(input_shape),
                                  **{key: self.heads[key]
                                     for key in HEAD_KEYS if key in self.heads})
        config.compile = config.load_from = None
        return self._as_stage(config, 'heads', [])

    def _student_training(self) -> Config:
        """The student's own config, trained without the images on which it is compared with its teacher, if
        it is."""
        return without(super()._student_training(), self.schedule.comparison)

    def cohort(self, snapshots: list[dict], heads: Path | None = None) -> dict:
        """Config of the teachers.

        Args:
            heads: on the one snapshot.
        """
        if heads is None:
            return dict(type='ckd_mm.SnapshotEnsemble', snapshots=snapshots, model=self.teacher.get('model'))
        return dict(type='ckd_mm.DIHTeacher', snapshot=snapshots[0], heads=str(heads),
                    use=self.heads.get('use'), model=self.teacher.get('model'))

    def hint_config(self, cohort: dict) -> Config:
        """The first stage of the student: its layers up to the guided one learn what the teachers' hint layer
        shows."""
        config = without(merged(super()._student_training(), self.hint), self.schedule.comparison)
        config.model = ConfigDict(type='ckd_mm.HintTraining', student=model_config_of(config), cohort=cohort,
                                  distiller=self.hint['distiller'], compile=config.get('compile') or False)
        # its classifier learns nothing yet
        config.compile = config.val_dataloader = config.val_cfg = config.val_evaluator = None
        return self._as_stage(config, 'hint', [])

    def student_config(self, snapshots: list[dict], scheduled: bool = True) -> Config:
        """
        Args:
            snapshots: the teachers, as :class:`ckd_mm.teachers.SnapshotEnsemble` takes them.
            scheduled: False: distil to the end from all of them alike, as short trials do, and train on all
                images.
        """
        if scheduled:
            self.check_chosen(len(snapshots))
            self.schedule.check(len(snapshots))
            return self.link_config(self.links[-1], self.cohort(snapshots), len(self.links) == 1)
        return self._distilled(self.plain(), self.cohort(snapshots), STUDENT, [], weighted=False)

    def student_alone_config(self, run: int = 0) -> Config:
        config = super().student_alone_config(run)
        return config if self.cache is None else self.cache.show_views(
            config)  # what is compared has seen the same images

    def targets_config(self, link: Link, cohort: dict, first: bool) -> Config:
        """Its teachers are asked as in this training of the link, which is not run.

        Args:
            cohort, first: see :meth:`link_config`.
        """
        config = copy.deepcopy(link.config)
        config.load_from = config.val_dataloader = config.val_cfg = config.val_evaluator = None
        return self._distilled(config, cohort, self.targets_stage(link), [], weighted=first)

    def link_config(self, link: Link, cohort: dict, first: bool) -> Config:
        """
        Args:
            cohort: its teachers.
            first: whether they are the chosen ones, whom ``teacher_weights`` are of; else they are the link
                before.
        """
        config, hooks = self.compared(link, cohort), copy.deepcopy(self.schedule.configs)
        if link.stage == STUDENT:
            hooks += self._student_snapshot_hooks()
            if self.hint is not None:
                config.load_from = str(self.work_dir / HINT)
        return self._distilled(config, cohort, link.stage, hooks, weighted=first,
                               targets=None if self.cache is None else self.targets_folder(link))

    def compared(self, link: Link, cohort: dict) -> Config:
        """The link's own training, with the metrics that compare it with its teachers, where these are still
        there: a student that
        has stopped distilling goes on without them."""
        config = copy.deepcopy(link.config)
        if not self.teacher_is_gone() or is_there(cohort):
            return self.comparing(config, cohort)
        if self.cache is not None:  # hooks look at the targets
            config.custom_hooks = self.comparing(copy.deepcopy(config), cohort).get('custom_hooks')
        return config

    def _distilled(self, config: Config, cohort: dict, stage: str, hooks: list[dict], weighted: bool,
                   targets: Path | None = None) -> Config:
        if self.cache is not None:
            self.cache.show_views(config)
        kd_loss = {key: value for key, value in self.kd_loss.items() if weighted or key != 'teacher_weights'}
        own: dict[str, Any] = {} if self.reduction == 'mean' else dict(reduction=self.reduction)
        if not self.fast_teachers:
            own['fast_teachers'] = False
        if targets is not None:
            own['targets'] = str(targets)
        elif views_of(config) is not None and self.distiller is None and self.targets_can_be_kept:
            # so that targets that are kept are the same, bit for bit
            own['teacher_batch'] = config.train_dataloader.batch_size
        config.model = ConfigDict(type='ckd_mm.CheckpointDistill', student=model_config_of(config),
                                  cohort=cohort, kd_loss=kd_loss, distiller=self.distiller,
                                  compile=config.get('compile') or False, **self.weights, **own)
        config.compile = None
        return self._as_stage(config, stage, hooks)

    # ------------------------------------------------------------ what there is
    @property
    def networks(self) -> dict[str, dict]:
        found = super().networks
        if self.trains_teacher:
            found['teacher'] = model_config_of(self.merged_teacher())
        found.update({
            link.what: model_config_of(link.config)
            for link in self.links if link.stage.startswith('assistant')
        })
        return found

    @property
    def training_sets(self) -> dict[str, dict]:
        found = super().training_sets
        for name, changes in changes_of(self.config).items():
            if 'train_dataloader' in changes and (name != 'teacher' or self.trains_teacher):
                base = self.merged_teacher() if name in ('teacher', 'heads') else self.plain()
                found[f'{name}.train_dataloader'] = merged(base, changes).train_dataloader.dataset
        return found

    @property
    def optim_wrappers(self) -> dict[str, dict | None]:
        return dict(super().optim_wrappers, **{f'{name}.optim_wrapper': changes.get('optim_wrapper')
                                               for name, changes in changes_of(self.config).items()})

    def describe(self) -> str:
        what = f'{len(self.snapshot_epochs_of(0))} snapshots in {self.teacher_epochs} epochs' + \
            (f', {self.runs} times' if self.runs > 1 else '') if self.trains_teacher else \
            f'given, {", ".join(map(str, self.trajectory_folders))}'
        between = ''.join(
            f'{link.what} {link.config.train_cfg.max_epochs} epochs; ' for link in self.links[:-1])
        return f'teacher {what}; {between}student {self.student_epochs} epochs'

    # ------------------------------------------------------------ trajectories
    def open_trajectories(self) -> list[Trajectory]:
        if self.trains_teacher:
            return [Trajectory.open(folder) for folder in self.trajectory_folders]
        if self._given is None:  # to know a folder of checkpoints means to read one of them: once is enough
            model = self.teacher.get('model')
            self._given = [
                Trajectory.open(folder, None if model is None else dict(model))
                for folder in self.trajectory_folders
            ]
            statistics = self.merged_teacher().get('data_preprocessor')
            for trajectory in self._given:
                trajectory.snapshots = [_with_statistics(snapshot, statistics) for snapshot in trajectory]
            self.schedule.check_given(self._given)
        return self._given

    def teacher_is_gone(self) -> bool:
        """Whether this run resumes a student that has already stopped distilling, or whose targets are kept
        and whose teachers have been
        removed, so that no teacher is needed. Teachers that are there are checked, whether they are needed or
        not."""
        if not self.config.get('resume'):
            return False
        if self.has_stopped():
            return True
        kept = self.cache is not None and StageLog(self.work_dir).is_done(self.targets_stage(self.links[-1])) and \
            TargetFile(self.targets_folder(self.links[-1])).is_complete
        return kept and not self._has_all_files()

    def can_open_trajectories(self) -> bool:
        try:
            self.open_trajectories()
        except SnapshotError:
            return False
        return True

    def _has_all_files(self) -> bool:
        """Also of damaged snapshots: to have changed is not to be gone."""
        return self.can_open_trajectories() and all(snapshot.file.is_file()
                                                    for trajectory in self.open_trajectories()
                                                    for snapshot in trajectory)

    def has_stopped(self) -> bool:
        """Whether this run resumes a student that has already stopped distilling."""
        if not self.config.get('resume') or not self.schedule.stops:
            return False
        latest = self.config.get('load_from') or latest_checkpoint(self.work_dir / 'student')
        if latest != self._gone[0]:  # asked often, and to know means to read the checkpoint
            self._gone = latest, latest is not None and self.schedule.is_over(
                _load_checkpoint(latest, map_location='cpu'))
        return self._gone[1]


def is_there(cohort: dict) -> bool:
    """Whether all files of a cohort are."""
    try:
        for snapshot in cohort.get('snapshots') or [cohort['snapshot']]:
            find_snapshot(snapshot, cohort.get('model')).check_file()
    except CkdError:
        return False
    return 'heads' not in cohort or Path(cohort['heads']).is_file()


def _with_statistics(snapshot: Snapshot, statistics: dict | None) -> Snapshot:
    """A snapshot that does not say how its inputs were normalised was trained as the config says."""
    if snapshot.model is None or statistics is None or snapshot.model.get('data_preprocessor') is not None:
        return snapshot
    return replace(snapshot, model=dict(snapshot.model, data_preprocessor=dict(statistics)))


def as_teacher(trajectory: Trajectory, snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as a config of :class:`ckd_mm.teachers.SnapshotEnsemble` names it."""
    teacher = dict(trajectory=str(trajectory.folder), epoch=snapshot.epoch)
    return teacher if trajectory.has_manifest else dict(teacher, model=snapshot.model)
