"""What the stages of a run share."""

import copy
import functools
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import Registry
from mmpretrain.registry import DATASETS, MODELS
from torch import nn

from ..classifier_heads import trainable
from ..counting import EPOCH, EXAMPLES, length_of
from ..data.damaged import name_damaged
from ..errors import ConfigError, in_a_line
from ..registry import unknown_type
from ..settings import RunnerSettings, Settings
from ..signals import StopRequest
from ..training import require_trainable, without_comparison
from ..validate import check_one_label
from .data_sets import require_own_settings

AUTO = 'auto'  # of ``resume``: from the last checkpoints of the work_dir


class Run:
    """One run: its config, its folder, and the results of its stages so far.

    Args:
        config: whole, with ``work_dir``.
        settings: the config's keys that are not mmengine's, read.
        log, warn: take a line.

    Attributes:
        results, seconds: of finished stages, by name.
        stop: the signal that a training looks for after each step.
        done: names of the stages that were finished before this process started.
        over: those of them whose results no unfinished stage needs.
        rehearses: whether this is a rehearsal, in a scratch folder and on a few images.
        own_folder: the config's work_dir, also in a rehearsal.
        length: of the student's training, in the unit of all trainings.

    Raises:
        ConfigError: the student cannot be trained like this.
    """

    def __init__(self, config: Config, settings: Settings, log: Callable[[str], None] = print,
                 warn: Callable[[str], None] | None = None) -> None:
        self.config, self.settings, self.log, self.warn = config, settings, log, warn or log
        self.work_dir = Path(config.work_dir)
        self.results: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        self.done: set[str] = set()
        self.over: set[str] = set()
        self.rehearses, self.own_folder = False, self.work_dir
        self.stop: StopRequest | None = None
        self._built: dict[str, Any] = {}
        RunnerSettings.of(config)
        require_trainable('', config)
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            require_own_settings(f'{name}.dataset', (config.get(name) or {}).get('dataset'))
        self.length = length_of(config.train_cfg)

    def folder(self, stage: str) -> Path:
        """Where the files of a stage are: in a rehearsal those of finished ones are the run's own."""
        return self.own_folder if stage in self.done else self.work_dir

    @property
    def name(self) -> str:
        return Path(self.config.filename).stem if self.config.filename else 'ckd_mm'

    @property
    def resumes(self) -> bool:
        return bool(self.config.get('resume'))

    @property
    def compares_networks(self) -> bool:
        """Whether networks learn from each other's logits."""
        return self.settings.teacher is not None or self.settings.peer is not None

    @property
    def resume_from(self) -> str | None:
        """The checkpoint that the student goes on from, where one is named: in ``resume`` or, as in mmengine,
        with ``resume=True`` in ``load_from``."""
        resume = self.config.get('resume')
        named = self.config.get('load_from') if resume is True else resume
        return str(named) if named and named != AUTO else None

    @cached_property
    def initial_weights(self) -> str | None:
        """From which students start: ``load_from``. Where that says where to resume (``resume=True``), it is
        that of the config's file, in whose place mmpretrain's tools put a checkpoint or None."""
        if self.config.get('resume') is not True:
            return self.config.get('load_from')
        return Config.fromfile(self.config.filename).get('load_from') if self.config.filename else None

    def require_epochs(self, name: str) -> None:
        """Raises ConfigError where trainings count iterations, and what is named counts epochs."""
        if self.length.unit != EPOCH:
            raise ConfigError(f'{name} counts epochs, and train_cfg counts {self.length.words}: leave it '
                              f'out, or give train_cfg=dict(_delete_=True, {EXAMPLES[EPOCH]})')

    def student_training(self) -> Config:
        """A copy of the student's own mmengine config, as if there were no distillation."""
        config = copy.deepcopy(self.config)
        config.load_from = self.initial_weights
        for key in self.settings.names():
            config.pop(key, None)
        return without_comparison(config)

    # ------------------------------------------------------------ for checks
    def network(self, name: str, model: dict[str, Any]) -> nn.Module:
        """A network with random weights in eval mode, built once and shared: do not change it."""
        with torch.random.fork_rng(devices=[]):
            built = self._build(MODELS, model, f'the {name} network cannot be built from its `model`')
        trainable(built.eval())
        return check_one_label(f'the {name} network', built) if self.compares_networks else built

    def data_set(self, config: dict, what: str) -> Any:
        """Built once: to list ImageNet takes half a minute.

        Args:
            what: names it in messages.
        """
        require_own_settings(what, config)
        dataset = name_damaged(self._build(DATASETS, config, f'{what} cannot be read'))
        # mmengine copies what a loader is built from; workers may pickle it
        dataset.__deepcopy__ = functools.partial(_first, dataset)
        return dataset

    def forget(self) -> None:
        """Release what was built for checks."""
        self._built.clear()

    def _build(self, registry: Registry, config: dict, problem: str) -> Any:
        if str(config) not in self._built:
            try:
                self._built[str(config)] = registry.build(copy.deepcopy(config))
            except Exception as error:  # whatever a constructor raises: name the setting
                reason = (unknown_type(error, config) or in_a_line(error)).lstrip('.')
                raise ConfigError(f'{problem}: {reason}') from error
        return self._built[str(config)]


def _first(value: Any, _: Any) -> Any:
    return value
