"""The student of a config, as every run trains it, with a teacher or without."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ..errors import ConfigError
from ..hooks.schedule_hook import schedule_names
from ..infoplane.images import held_out_part
from ..infoplane.probe import Probe, held_out_record
from ..trajectory import model_config_of, snapshot_epochs
from .data_sets import require_own_settings
from .model_files import resolve_model_files
from .settings import (
    KEPT_CHECKPOINTS,
    METHOD_KEYS,
    OWN_KEYS,
    as_list,
    changes_of,
    require_known,
    require_no_misspelled,
    type_name,
    whole_number,
    with_seed,
)


def _compares(metric: Any) -> bool:
    return type_name(metric) == 'KDMetric' and 'teacher' not in metric


# what compares student and teachers has no place where nobody teaches
COMPARING: dict[str, Callable[[Any], bool]] = dict(
    val_evaluator=_compares, test_evaluator=_compares,
    custom_hooks=lambda hook: type_name(hook) == 'TrainAgreementHook')


class StudentPlan:
    """A config taken apart: what all kinds of runs have in common.

    Args:
        config: whole, with ``work_dir``.

    Raises:
        ConfigError: a setting cannot work; the message names it.
    """

    trains_teacher = False
    needs_labels = False  # of the loss of logits
    measures_plane = False

    def __init__(self, config: Config) -> None:
        resolve_model_files(config)
        self.config = config
        require_no_misspelled(config)
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            require_own_settings(f'{name}.dataset', (config.get(name) or {}).get('dataset'))
        self.work_dir = Path(config.work_dir)
        self.initial_weights: str | None = _initial_weights(config)
        if 'train_cfg' not in config or 'max_epochs' not in config.train_cfg:
            raise ConfigError('train_cfg.max_epochs is missing: the student is trained by epochs')
        self.student_epochs: int = whole_number('train_cfg.max_epochs', config.train_cfg.max_epochs, 1)
        for name, changes in changes_of(config).items():
            if 'max_epochs' in (changes.get('train_cfg') or {}):
                whole_number(f'{name}.train_cfg.max_epochs', changes['train_cfg']['max_epochs'], 1)
        alone = config.get('student_alone') or 0
        self.students_alone: int = int(alone) if isinstance(alone, bool) else whole_number(
            'student_alone', alone, 0)
        self._read_student_snapshots()
        self._check_hooks('custom_hooks', config.get('custom_hooks'))

    def _read_student_snapshots(self) -> None:
        self.student_snapshots: dict | None = self.config.get('student_snapshots')
        if self.student_snapshots is None:
            return
        if not isinstance(self.student_snapshots, dict):
            raise ConfigError(f'student_snapshots={self.student_snapshots!r} should be a dict, say '
                              'dict(interval=10)')
        require_known('student_snapshots', self.student_snapshots, ('interval', 'epochs', 'phases'))
        try:
            snapshot_epochs(self.student_epochs, **self.student_snapshots)
        except ConfigError as error:
            raise ConfigError(f'student_{error}') from error

    @staticmethod
    def _check_hooks(name: str, hooks: list | None) -> None:
        for hook in hooks or []:
            if type_name(hook) in schedule_names():
                raise ConfigError(f'{name}: {type_name(hook)} belongs into distill.schedule; every stage '
                                  'would inherit it')
            if type_name(hook) == 'SnapshotHook' or (type_name(hook) == 'InfoPlaneHook'
                                                     and name == 'custom_hooks'):
                raise ConfigError(f'{name}: {type_name(hook)} stands for what `teacher.snapshots` and '
                                  '`probe` ask for in this config, '
                                  'and every stage would inherit it; take it out')

    def _refuse(self, why: str, *keys: str) -> None:
        found = [key for key in keys if self.config.get(key)]
        if found:
            raise ConfigError(f'{", ".join(found)}: {why}; take {"it" if len(found) == 1 else "them"} out, '
                              'or override what is inherited, '
                              f'--cfg-options {" ".join(f"{key}=None" for key in found)}')

    # ------------------------------------------------------------ what there is
    @property
    def name(self) -> str:
        return Path(self.config.filename).stem if self.config.filename else 'ckd_mm'

    @property
    def networks(self) -> dict[str, dict]:
        """Config of each network that this run trains, the student first; all tell the same classes apart."""
        return dict(student=model_config_of(self.plain()))

    @property
    def training_sets(self) -> dict[str, dict]:
        """Where the config says which images, and their config."""
        return {'train_dataloader': self.plain().train_dataloader.dataset}

    @property
    def optim_wrappers(self) -> dict[str, dict | None]:
        return dict(optim_wrapper=self.config.get('optim_wrapper'))

    def describe(self) -> str:
        return f'student {self.student_epochs} epochs'

    def teacher_is_gone(self) -> bool:
        """Whether this run needs no teacher any more."""
        return True

    # ------------------------------------------------------------ configs of the stages
    def plain(self) -> Config:
        """The student's own mmengine config, as if there were no distillation."""
        config = copy.deepcopy(self.config)
        # a resumed stage goes on from its own checkpoint, if it has one
        config.load_from = self.initial_weights
        for key in OWN_KEYS:
            config.pop(key, None)
        for name, compares in COMPARING.items():
            if any(map(compares, as_list(config.get(name)))):
                config[name] = [item for item in as_list(config[name]) if not compares(item)]
        return config

    def comparing(self, config: Config, cohort: dict) -> Config:
        """``config``, made from :meth:`plain`, with the metrics and hooks that compare a student with this
        cohort; in place."""
        for name, compares in COMPARING.items():
            found = [copy.deepcopy(item) for item in as_list(self.config.get(name)) if compares(item)]
            if found and (name == 'custom_hooks' or config.get(name) is not None):
                if name != 'custom_hooks':
                    tau = (self.config.get('distill') or {}).get('tau')
                    found = [
                        dict({} if tau is None else dict(tau=tau), **item, teacher=copy.deepcopy(cohort))
                        for item in found
                    ]
                config[name] = as_list(config.get(name)) + found
        return config

    def _student_training(self) -> Config:
        """The student's own config, on the images that it is trained on."""
        return self.plain()

    @staticmethod
    def alone_stage(run: int) -> str:
        """Name of the stage of the ``run``-th student without a teacher, counted from 0."""
        return 'student_alone' if run == 0 else f'student_alone_{run + 1}'

    def student_alone_config(self, run: int = 0) -> Config:
        """Of the ``run``-th student without a teacher, with a seed of its own."""
        return self._as_stage(with_seed(self._student_training(), run), self.alone_stage(run),
                              self._student_snapshot_hooks())

    def _student_snapshot_hooks(self) -> list[dict]:
        if self.student_snapshots is None:
            return []
        info, training = {}, self._student_training().train_dataloader.dataset
        if training.get('part') == 'rest':  # as of ckd_mm.infoplane.images.held_out_part
            info['held_out'] = held_out_record(training.held_out, training.seed)
        return [dict(type='ckd_mm.SnapshotHook', info=info, overwrite=True, **self.student_snapshots)]

    def _as_stage(self, config: Config, stage: str, hooks: list[dict]) -> Config:
        config.work_dir = str(self.work_dir / stage)
        # mmengine mixes up the logs of runs of one name that start together
        config.experiment_name = f'{self.work_dir.name}_{stage}'
        custom = list(config.get('custom_hooks') or [])
        if not any(type_name(hook) == 'SyncBuffersHook' for hook in custom):
            # each process has its own BatchNorm statistics: averaged, those that are evaluated are also those
            # that are written. It does nothing in one process, and is there too so that a run may go on with
            # another number of them
            custom = [dict(type='SyncBuffersHook')] + custom
        config.custom_hooks = custom + hooks + [
            dict(type='ckd_mm.FiniteLossHook'), dict(type='ckd_mm.StageStateHook')
        ]
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


class PlainPlan(StudentPlan):
    """``teacher=None``: the student is trained by its own loss."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._refuse('with teacher=None nothing is distilled, and the student is alone already', 'probe',
                     'selector', *METHOD_KEYS, 'distill', 'student_alone')

    def describe(self) -> str:
        return f'no teacher; student {self.student_epochs} epochs'

    def student_config(self) -> Config:
        return self._as_stage(self._student_training(), 'student', self._student_snapshot_hooks())


def _initial_weights(config: Config) -> str | None:
    """The config's ``load_from``, from which students start; ``--resume`` clears it, or puts a checkpoint in
    its place."""
    if not config.get('resume'):
        return config.get('load_from')
    return Config.fromfile(config.filename).get('load_from') if config.filename else None


def without(config: Config, kept: Probe | None) -> Config:
    """``config``, trained without the images that ``kept`` holds out, if it is given; in place."""
    if kept is not None:
        config.train_dataloader.dataset = ConfigDict(
            held_out_part(config.train_dataloader.dataset, kept.held_out, kept.seed, 'rest'))
    return config
