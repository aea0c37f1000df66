"""What the schedules of distillation have in common."""

import inspect
from collections.abc import Sequence
from typing import Any

from ..counting import Length, planned
from ..errors import ConfigError
from ..registry import HOOKS
from ..training import unwrap
from .counting_hook import CountingHook


class ScheduleHook(CountingHook):
    """Decides until when, how strongly or from whom a :class:`ckd_mm.CheckpointDistill` learns.

    Epochs count finished epochs: what happens "at epoch 3" happens after three epochs, before the fourth.
    Where a training counts iterations, what is an epoch here is an iteration. The weight of the distillation
    loss is logged as ``kd_weight``, 0 after the stop.

    Attributes:
        stops: whether it ends distillation.
        stops_at: the epoch at which it does; None if that is known only during training, or never.
        changes_teacher: whether it replaces the teachers during training, one by the next.
        changes_weight: whether it changes the model's ``kd_weight``.
        needs_one_teacher: whether it requires that they stay the same.
    """

    # hooks of one priority run in the order of the config, so SyncBuffersHook comes before; LoggerHook
    # (BELOW_NORMAL) and CheckpointHook (VERY_LOW) come after: a checkpoint holds the decisions of its epoch
    priority = 'NORMAL'
    stops = False
    stops_at: int | None = None
    changes_teacher = False
    changes_weight = False
    needs_one_teacher = False

    def check(self, length: Length, distilled: Length, teachers: int | None) -> None:
        """Raises ConfigError if the settings do not fit the run.

        Args:
            length: of the training.
            distilled: see :func:`check_schedules`.
            teachers: number of snapshots; None if it is not known yet.
        """

    def before_train(self, runner) -> None:
        self.length = planned(self, runner)
        self.model = unwrap(runner.model)
        if not hasattr(self.model, 'stop_distillation'):
            raise ConfigError(f'{type(self).__name__} needs a ckd_mm.CheckpointDistill model, got '
                              f'{type(self.model).__name__}')
        snapshots = (self.model.cohort_config or {}).get('snapshots')
        hooks = [hook for hook in runner.hooks if isinstance(hook, ScheduleHook)]
        self.distilled = check_schedules(hooks, self.length, None if snapshots is None else len(snapshots))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        weight = float(self.model.kd_weight) if self.model.distilling else 0.0
        runner.message_hub.update_scalar('train/kd_weight', weight)

    def stop(self, runner, when: str) -> None:
        """End distillation; ``when`` is for the log, 'after 3 epochs'."""
        if self.model.stopped:
            return
        self.model.stop_distillation()
        for name in [name for name in runner.message_hub.log_scalars if name.startswith('train/loss_')]:
            del runner.message_hub.log_scalars[name]  # mmengine would go on logging the last value
        runner.logger.info(f'Distillation stopped {when}; the teacher is released.')


def check_schedules(hooks: Sequence[ScheduleHook], length: Length, teachers: int | None = None) -> Length:
    """The epoch at which distillation has stopped at the latest; ``length`` if none is known.

    Raises ConfigError if the schedules do not fit the run or each other; arguments as in
    :meth:`ScheduleHook.check`.
    """
    names = [type(hook).__name__ for hook in hooks]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f'schedule: {name} is there {names.count(name)} times; keep one')
    stopping = [type(hook).__name__ for hook in hooks if hook.stops]
    if len(stopping) > 1:
        raise ConfigError(f'schedule: {" and ".join(stopping)} would each stop distillation; keep one of '
                          'them')
    for changing in (hook for hook in hooks if hook.changes_teacher):
        for comparing in (hook for hook in hooks if hook.needs_one_teacher):
            raise ConfigError(f'schedule: {type(comparing).__name__} compares the student with its teacher, '
                              f'which {type(changing).__name__} changes; keep one of them')
    length = Length(length)
    distilled = Length(min([hook.stops_at for hook in hooks if hook.stops_at is not None], default=length),
                       length.unit)
    for hook in hooks:
        hook.check(length, distilled, teachers)
    return distilled


def schedule_names() -> list[str]:
    return sorted(name for name, hook in HOOKS.module_dict.items() if issubclass(hook, ScheduleHook))


def schedule_class(config: Any) -> type:
    """The class that an entry of ``distill.schedule`` names; raises ConfigError if it is no schedule."""
    name = config.get('type') if isinstance(config, dict) else None
    found = HOOKS.get(name) if name and isinstance(name, str) else None
    if not (isinstance(found, type) and issubclass(found, ScheduleHook)):
        raise ConfigError(f'distill.schedule: type={name if isinstance(config, dict) else config!r} should '
                          f'be one of {", ".join(f"ckd_mm.{known}" for known in schedule_names())}')
    return found


def build_schedule(config: dict[str, Any]) -> ScheduleHook:
    """The hook of an entry of ``distill.schedule``; raises ConfigError if it does not take the settings."""
    kind = schedule_class(config)
    try:
        return kind(**{key: value for key, value in config.items() if key != 'type'})
    except TypeError as error:
        raise ConfigError(f'distill.schedule: {kind.__name__} does not take these settings: {error}; known '
                          f'are {", ".join(inspect.signature(kind).parameters)}') from error
