"""``distill``: the loss of logits, its weights, and its schedule."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from ..counting import EPOCH, Length, length_of
from ..errors import ConfigError, in_a_line
from ..hooks.schedule_hook import build_schedule, check_schedules, schedule_class
from ..hooks.stop_when_overtaken_hook import StopWhenOvertakenHook
from ..infoplane.probe import Probe
from ..losses import CohortKDLoss
from ..registry import MODELS
from ..settings import Settings, setting
from ..training import as_list
from ..trajectory import Trajectory
from ..validate import TEMPERATURE, WEIGHT, check_any
from .targets import CacheSettings

LOSS_KEYS = ('tau', 'aggregation', 'teacher_weights', 'standardize')
IMAGES = ('held_out', 'num_images', 'seed')  # the images of a comparison, in the words of `probe`


@dataclass(frozen=True, kw_only=True)
class DistillSettings(Settings):
    """``distill``: how a student learns from its teachers."""
    tau: float = setting(4.0, **TEMPERATURE, help='temperature of the softened probabilities')
    aggregation: str = setting(
        'prob', choices=('prob', 'logit', 'loss'),
        help='what is averaged over the teachers: softened probabilities (Eq. 2 of CheckpointKD), logits, or '
             'losses (Eq. 4 of DIH)')
    teacher_weights: list | None = setting(
        None, help='one number for each teacher, at least 0; default: equal')
    standardize: bool = setting(False, help='bring logits to mean 0 and standard deviation 1 first')
    loss: dict | None = setting(
        None, help='another loss of logits instead of tau, aggregation, teacher_weights and standardize, say '
                   "dict(type='ckd_mm.DecoupledKDLoss')")
    ce_weight: float = setting(1.0, **WEIGHT, help="weight of the student's own loss while it is distilled")
    kd_weight: float = setting(
        1.0, **WEIGHT, help='weight of the distillation loss; at 0 no teacher is used')
    ce_weight_after_stop: float = setting(
        1.0, **WEIGHT, help="weight of the student's own loss after an early stop")
    reduction: str = setting(
        'mean', choices=('mean', 'sum'),
        help="over the teachers: 'mean' as in the papers; 'sum' as the DIH authors' code, where each teacher "
             'brings its own cross-entropy')
    stop_epoch: int | None = setting(
        None, at_least=0, help="distil for so many epochs, then train on the student's own loss (ESKD)")
    schedule: list | dict | None = setting(
        None, help='hook or list of hooks that change distillation: ckd_mm.AnnealDistillationHook, '
                   'ckd_mm.StopWhenOvertakenHook, ckd_mm.ProgressiveTeacherHook')
    distiller: dict | None = setting(
        None, help='config of a ckd_mm.FeatureDistiller or an mmrazor.ConfigurableDistiller, for losses of '
                   'features')
    cohort: dict | None = setting(
        None, help='config of another cohort than ckd_mm.SnapshotEnsemble; it is given the selected '
                   '`snapshots` and the `model` of those that do not name their own')
    teacher_dtype: str | None = setting(
        None, choices=('bf16', 'fp16'), help='of weights and features of the teachers; logits are float32')
    calibrate: bool | dict = setting(
        False, help='divide the logits of each teacher by a temperature of its own, fitted on the images of '
                    '`probe`; without a probe on those of a dict with its keys')
    off_load: bool = setting(False, help=(
        'teachers stay in host memory, and each is on the device during its own forward pass only'))
    cache: CacheSettings | None = setting(
        None, help='teacher forwards are done once, before the training, and cached')

    def check(self, name: str) -> None:
        if self.distiller is None and not self.schedule:
            check_any(name, kd_weight=self.kd_weight, ce_weight=self.ce_weight)
        if self.loss is None:
            try:
                CohortKDLoss(**{key: getattr(self, key) for key in LOSS_KEYS})
            except ConfigError as error:
                raise ConfigError(f'{name}.{error}') from error
            return
        for key in LOSS_KEYS:
            if key in self.given:
                raise ConfigError(f'{name}.{key}={self.given[key]!r} is a setting of the usual loss, and '
                                  f'{name}.loss names another: say it there, and take {name}.{key} out (or '
                                  'set it to None)')
        try:
            self.built_loss()
        except Exception as error:  # an unknown type, a setting that it does not take, ...
            raise ConfigError(
                f'{name}.loss={self.loss!r} cannot be built: {in_a_line(error)}') from error

    @property
    def kd_loss(self) -> dict[str, Any]:
        """Config of the loss of logits."""
        if self.loss is not None:
            return dict(self.loss)
        return dict(type='ckd_mm.CohortKDLoss', **{key: self.given[key] for key in LOSS_KEYS
                                                   if key in self.given})

    def built_loss(self) -> Any:
        return MODELS.build(copy.deepcopy(self.kd_loss))

    @property
    def needs_labels(self) -> bool:
        return getattr(self.built_loss(), 'needs_labels', False)

    @property
    def is_cacheable(self) -> bool:
        """Whether the loss of logits tells what it needs of the teachers."""
        loss = self.built_loss()
        return hasattr(loss, 'target') and hasattr(loss, 'target_settings')

    @property
    def precision(self) -> dict[str, str]:
        """Of teachers, for a fingerprint."""
        return {} if self.teacher_dtype is None else dict(dtype=self.teacher_dtype)

    @property
    def memory(self) -> dict[str, Any]:
        """Settings of a cohort: how, and where, it keeps its networks."""
        return dict(self.precision, **(dict(off_load=True) if self.off_load else {}))

    def cohort_of(self, snapshots: list, model: dict | None) -> dict[str, Any]:
        """Config of the teachers, of snapshots and of the ``model`` of those that do not name their own."""
        return dict(self.cohort or dict(type='ckd_mm.SnapshotEnsemble'), snapshots=snapshots, model=model,
                    **self.memory)

    def weights(self) -> dict[str, float]:
        return dict(ce_weight=self.ce_weight, kd_weight=self.kd_weight,
                    ce_weight_after_stop=self.ce_weight_after_stop)


class Schedule:
    """``distill.stop_epoch`` and ``distill.schedule`` as hooks of the student's training.

    Args:
        student: the student's training.
        probe: of the run, if it has one: a ``StopWhenOvertakenHook`` compares on its held-out images. Without
            one its config has ``held_out``, ``num_images`` and ``seed`` itself.

    Attributes:
        configs: of the hooks.
        comparison: the images on which student and teacher are compared, which neither is trained on; None if
            they are not compared.

    Raises:
        ConfigError: the schedule is impossible for any number of teachers.
    """

    def __init__(self, distill: DistillSettings, student: Config, probe: Probe | None) -> None:
        self.length = length_of(student.train_cfg)
        self.comparison: Probe | None = None
        self.configs: list[dict] = []
        items = copy.deepcopy(as_list(distill.schedule))
        if distill.stop_epoch is not None:
            if self.length.unit == EPOCH and distill.stop_epoch > self.length:
                raise ConfigError(f'distill.stop_epoch={distill.stop_epoch!r} should be a whole number of '
                                  f'epochs, 0 to {self.length} (train_cfg.max_epochs), or None to distil to '
                                  'the end')
            items.insert(0, dict(type='ckd_mm.StopDistillationHook', stop_epoch=distill.stop_epoch))
        for item in items:
            kind = schedule_class(item)
            if issubclass(kind, StopWhenOvertakenHook):
                item = self._with_images(item, student, probe)
            # inside the student's stage a type without a scope would be mmpretrain's
            self.configs.append(
                dict(item, type=item['type'] if '.' in item['type'] else f'ckd_mm.{kind.__name__}'))
        self.hooks = [build_schedule(item) for item in self.configs]
        annealing = [hook for hook in self.hooks if hook.changes_weight]
        self.anneals = bool(annealing)
        self.progressive = any(hook.changes_teacher for hook in self.hooks)
        self.check(None)
        if 'ce_weight_after_stop' in distill.given and any(hook.stops for hook in annealing):
            raise ConfigError(f'distill.ce_weight_after_stop={distill.ce_weight_after_stop}: what the '
                              'cross-entropy weighs after annealing is ce_end_value of '
                              'AnnealDistillationHook; take ce_weight_after_stop out')
        if self.progressive and distill.teacher_weights is not None:
            raise ConfigError('distill.teacher_weights: with ProgressiveTeacherHook one snapshot teaches at '
                              'a time; take the weights out')

    def _with_images(self, item: dict, student: Config, probe: Probe | None) -> dict:
        given = {key: item.pop(key) for key in IMAGES if key in item}
        if 'dataset' in item or (given and probe is not None):
            raise ConfigError('distill.schedule: StopWhenOvertakenHook compares on the held-out images of '
                              f'`probe`; say {next(iter(given), "dataset")!r} there')
        if probe is not None:
            given = {key: getattr(probe, key) for key in IMAGES}
        self.comparison = Probe(student, **given)
        return dict(item, dataset=self.comparison.dataset, num_images=self.comparison.num_images,
                    seed=self.comparison.seed)

    def check(self, teachers: int | None, length: Length | None = None) -> Length:
        """When distillation has surely stopped.

        Args:
            teachers: number of snapshots, None where it is not known yet.
            length: of the training of another student than the config's.

        Raises:
            ConfigError: the schedule cannot be met.
        """
        return check_schedules(self.hooks, self.length if length is None else length, teachers)

    def check_given(self, trajectories: Sequence[Trajectory]) -> None:
        """
        Raises:
            ConfigError: a teacher was trained on the images on which the student is to be compared with it.
        """
        if self.comparison is None:
            return
        for trajectory in trajectories:
            if self.comparison.was_seen(trajectory):
                raise ConfigError('distill.schedule: StopWhenOvertakenHook needs a teacher that was trained '
                                  f'without {self.comparison.held_out_images}, and {trajectory.folder} says '
                                  f'{trajectory.info.get("held_out")}: on images it has seen no student '
                                  'would overtake it. Use a trajectory of such a run, or distill.stop_epoch')


@dataclass
class Distillation:
    """How all students of a run are distilled."""
    settings: DistillSettings
    schedule: Schedule
