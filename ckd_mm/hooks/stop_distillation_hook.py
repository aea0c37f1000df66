"""Early-stopped knowledge distillation (ESKD, Sec. 5.3)."""


from ..errors import ConfigError
from ..registry import HOOKS
from .schedule_hook import ScheduleHook


@HOOKS.register_module()
class StopDistillationHook(ScheduleHook):
    """Distil for the first ``stop_epoch`` epochs, then train on with cross-entropy alone and without the
    teacher.

    The state is the epoch itself, so a run resumed past the stop never loads the teacher.

    Args:
        stop_epoch: number of epochs with distillation, 0 for none.
    """

    stops = True

    def __init__(self, stop_epoch: int) -> None:
        if not isinstance(stop_epoch, int) or isinstance(stop_epoch, bool) or stop_epoch < 0:
            raise ConfigError(f'stop_epoch={stop_epoch!r} should be a whole number of epochs, at least 0')
        self.stop_epoch = stop_epoch

    @property
    def stop_epoch_known(self) -> int | None:
        return self.stop_epoch

    def check(self, max_epochs, distilled_epochs, teachers) -> None:
        if self.stop_epoch > max_epochs:
            raise ConfigError(f'stop_epoch={self.stop_epoch} is never reached: the run has {max_epochs} '
                              'epochs; leave stop_epoch out to distil to the end')

    def before_train(self, runner) -> None:
        super().before_train(runner)
        self.before_train_epoch(runner)

    def before_train_epoch(self, runner) -> None:
        if runner.epoch >= self.stop_epoch:
            self.stop(runner, f'after {self.stop_epoch} epochs')
