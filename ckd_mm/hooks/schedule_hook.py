"""What the schedules of distillation have in common."""

import inspect
from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop

from ..errors import ConfigError
from ..registry import HOOKS
from ..training import unwrap


class ScheduleHook(Hook):
    """Decides until when, how strongly or from whom a :class:`ckd_mm.students.CheckpointDistill` learns.

    Epochs count finished epochs, as everywhere: what happens "at epoch 3" happens after three epochs, before
    the fourth. The weight of the distillation loss in each iteration is logged as ``kd_weight``, 0 after the
    stop.

    Attributes:
        stops: whether it ends distillation.
        changes_teacher: whether the student has other teachers later than at first.
        needs_one_teacher: whether it cannot work if they change.
    """

    # among hooks of one priority the order of the config counts, so SyncBuffersHook comes before; LoggerHook
    # (BELOW_NORMAL) and CheckpointHook (VERY_LOW) come after: a checkpoint knows what was decided in its
    # epoch
    priority = 'NORMAL'
    stops = False
    changes_teacher = False
    needs_one_teacher = False

    @property
    def stop_epoch_known(self) -> int | None:
        """The epoch at which distillation ends, where the settings say it."""
        return None

    def check(self, max_epochs: int, distilled_epochs: int, teachers: int | None) -> None:
        """
        Args:
            max_epochs: of the run.
            distilled_epochs: epochs after which distillation has surely stopped, by whatever schedule.
            teachers: number of snapshots, None where it is not known yet.

        Raises:
            ConfigError: the run cannot do what the settings say.
        """

    def is_over(self, checkpoint: dict[str, Any]) -> bool:
        """Whether a run that goes on from this checkpoint needs no teacher."""
        return self.stop_epoch_known is not None and checkpoint['meta']['epoch'] >= self.stop_epoch_known

    def before_train(self, runner) -> None:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ConfigError(f'{type(self).__name__} counts epochs, but train_cfg makes a '
                              f'{type(runner.train_loop).__name__}; use an EpochBasedTrainLoop '
                              '(train_cfg=dict(by_epoch=True, max_epochs=...))')
        snapshots = (self.model_of(runner).cohort_config or {}).get('snapshots')
        check_schedules([hook for hook in runner.hooks if isinstance(hook, ScheduleHook)], runner.max_epochs,
                        None if snapshots is None else len(snapshots))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        model = self.model_of(runner)
        runner.message_hub.update_scalar('train/kd_weight',
                                         float(model.kd_weight) if model.distilling else 0.0)

    def model_of(self, runner):
        """
        Raises:
            ConfigError: there is nothing to schedule.
        """
        model = unwrap(runner.model)
        if not hasattr(model, 'stop_distillation'):
            raise ConfigError(f'{type(self).__name__} needs a ckd_mm.CheckpointDistill model, got '
                              f'{type(model).__name__}')
        return model

    def stop(self, runner, when: str) -> None:
        """End distillation now.

        Args:
            when: for the log, 'after 3 epochs'.
        """
        model = self.model_of(runner)
        if model.stopped:
            return
        model.stop_distillation()
        for name in [name for name in runner.message_hub.log_scalars if name.startswith('train/loss_')]:
            del runner.message_hub.log_scalars[name]  # mmengine would go on logging the last value
        runner.logger.info(f'Distillation stopped {when}; the teacher is released.')


def check_schedules(hooks: Sequence[ScheduleHook], max_epochs: int, teachers: int | None = None) -> int:
    """Whether schedules can be met by a run, and by each other.

    Args:
        max_epochs: of the run.
        teachers: number of snapshots, None where it is not known yet.

    Returns:
        The epochs after which distillation has surely stopped; ``max_epochs`` where that is not known before.

    Raises:
        ConfigError: they cannot.
    """
    names = [type(hook).__name__ for hook in hooks]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f'schedule: {name} is there {names.count(name)} times; keep one')
    stopping = [type(hook).__name__ for hook in hooks if hook.stops]
    if len(stopping) > 1:
        raise ConfigError(f'schedule: {" and ".join(stopping)} would each stop distillation; keep one of '
                          'them')
    for hook in hooks:
        for other in hooks:
            if hook.changes_teacher and other.needs_one_teacher:
                raise ConfigError(f'schedule: {type(other).__name__} compares the student with its teacher, '
                                  f'which {type(hook).__name__} changes; keep one of them')
    distilled = min([hook.stop_epoch_known for hook in hooks if hook.stop_epoch_known is not None],
                    default=max_epochs)
    for hook in hooks:
        hook.check(max_epochs, distilled, teachers)
    return distilled


def schedule_names() -> list[str]:
    return sorted(name for name, hook in HOOKS.module_dict.items() if issubclass(hook, ScheduleHook))


def schedule_class(config: Any) -> type:
    """The hook that an entry of ``distill.schedule`` names.

    Raises:
        ConfigError: it names none.
    """
    found = HOOKS.get(
        config['type']) if isinstance(config, dict) and isinstance(config.get('type'), str) else None
    if not (isinstance(found, type) and issubclass(found, ScheduleHook)):
        what = config.get('type') if isinstance(config, dict) else config
        raise ConfigError(f'distill.schedule: type={what!r} should be one of '
                          f'{", ".join(f"ckd_mm.{name}" for name in schedule_names())}')
    return found


def build_schedule(config: dict[str, Any]) -> ScheduleHook:
    """A hook from ``dict(type='ckd_mm.AnnealDistillationHook', begin=10, end=60)``.

    Raises:
        ConfigError: there is no such schedule, or it does not take these settings.
    """
    kind = schedule_class(config)
    try:
        return kind(**{key: value for key, value in config.items() if key != 'type'})
    except TypeError as error:
        known = ', '.join(inspect.signature(kind).parameters)
        raise ConfigError(f'distill.schedule: {kind.__name__} does not take these settings: {error}; known '
                          f'are {known}') from error
