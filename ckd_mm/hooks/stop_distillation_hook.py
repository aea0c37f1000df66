"""Early-stopped knowledge distillation (ESKD, Sec. 5.3)."""

from ..errors import ConfigError
from ..registry import HOOKS
from ..validate import check_int
from .schedule_hook import ScheduleHook


@HOOKS.register_module()
class StopDistillationHook(ScheduleHook):
    """Distil for ``stop_epoch`` epochs (0: for none), then train on with cross-entropy alone.

    A run resumed past the stop does not load the teachers.
    """

    stops = True

    def __init__(self, stop_epoch: int) -> None:
        self.stop_epoch = check_int('stop_epoch', stop_epoch, 0, ' of epochs')

    def check(self, max_epochs, distilled_epochs, teachers) -> None:
        if self.stop_epoch > max_epochs:
            raise ConfigError(f'stop_epoch={self.stop_epoch} is never reached: the run has {max_epochs} '
                              'epochs; leave stop_epoch out to distil to the end')

    def before_train_epoch(self, runner) -> None:
        if runner.epoch >= self.stop_epoch:
            self.stop(runner, f'after {self.stop_epoch} epochs')
