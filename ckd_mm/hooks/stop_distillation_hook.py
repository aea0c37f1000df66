"""Early-stopped knowledge distillation (ESKD, Sec. 5.3)."""

from ..counting import EPOCH, ITER, WORDS
from ..errors import ConfigError
from ..registry import HOOKS
from ..validate import check_int
from .schedule_hook import ScheduleHook


@HOOKS.register_module()
class StopDistillationHook(ScheduleHook):
    """Distil for ``stop_epoch`` epochs (0: for none), in a training by iterations for ``stop_iter`` of them,
    then train on with cross-entropy alone.

    A run resumed past the stop does not load the teachers.
    """

    stops = True

    def __init__(self, stop_epoch: int | None = None, stop_iter: int | None = None) -> None:
        self.unit = EPOCH if stop_iter is None else ITER
        if None not in (stop_epoch, stop_iter):
            raise ConfigError(f'StopDistillationHook: stop_epoch={stop_epoch} and stop_iter={stop_iter}: '
                              'give one of them')
        self.stops_at = check_int(f'stop_{self.unit}', stop_epoch if stop_iter is None else stop_iter, 0,
                                  f' of {WORDS[self.unit]}s')

    def check(self, length, distilled, teachers) -> None:
        key = f'stop_{self.unit}'
        if self.unit != length.unit:
            raise ConfigError(f'{key}={self.stops_at}, but the training counts {length.words}: give '
                              f"distill.schedule=dict(type='ckd_mm.StopDistillationHook', "
                              f'stop_{length.unit}=...)')
        if self.stops_at > length:
            raise ConfigError(f'{key}={self.stops_at} is never reached: the run has {length.text}; '
                              f'leave {key} out to distil to the end')

    def before_one(self, runner, done) -> None:
        if done >= self.stops_at:
            self.stop(runner, f'after {self.stops_at} {self.length.words}')
