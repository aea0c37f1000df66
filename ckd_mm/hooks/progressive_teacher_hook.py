"""A teacher that walks along its own trajectory."""

from bisect import bisect_right
from collections.abc import Sequence

from ..errors import ConfigError
from ..registry import HOOKS
from ..trajectory import phase_end
from .schedule_hook import ScheduleHook


@HOOKS.register_module()
class ProgressiveTeacherHook(ScheduleHook):
    """The snapshots of the model's cohort teach one after another, in the order of the list, instead of
    together.

    Route-constrained optimisation (RCO; Jin et al., ICCV 2019, arXiv 1904.09149); why it helps: "Progressive
    distillation induces an implicit curriculum" (Panigrahi et al., ICLR 2025, arXiv 2410.05464).

    One teacher is in memory at a time. The state is the epoch itself: a resumed run loads the teacher of its
    epoch, no other.

    Args:
        starts: finished epochs of the student at which each snapshot takes over, the first 0, say [0, 60,
            120]; default: spread evenly over the epochs with distillation.
    """

    changes_teacher = True

    def __init__(self, starts: Sequence[int] | None = None) -> None:
        if starts is not None:
            rising = isinstance(starts, (list, tuple)) and all(
                isinstance(start, int) and not isinstance(start, bool) for start in starts)
            if not rising or list(starts[:1]) != [0] or any(later <= start
                                                            for start, later in zip(starts, starts[1:])):
                raise ConfigError(f'ProgressiveTeacherHook: starts={starts!r} should be rising epochs of the '
                                  'student, the first 0')
        self.starts = starts

    def check(self, max_epochs, distilled_epochs, teachers) -> None:
        if self.starts is not None and self.starts[-1] >= distilled_epochs:
            raise ConfigError(f'ProgressiveTeacherHook: starts={list(self.starts)}: the last teacher would '
                              f'never teach, there are {distilled_epochs} epochs with distillation')
        if teachers is None:
            return
        if teachers < 2:
            raise ConfigError('ProgressiveTeacherHook: one snapshot cannot take turns; let the selector '
                              'choose several, say '
                              "selector=dict(type='even', k=4)")
        if self.starts is not None and len(self.starts) != teachers:
            raise ConfigError(f'ProgressiveTeacherHook: starts={list(self.starts)} should be {teachers} '
                              'epochs, one for each snapshot')
        if teachers > distilled_epochs:
            raise ConfigError(f'ProgressiveTeacherHook: {teachers} snapshots cannot take turns in '
                              f'{distilled_epochs} epochs with distillation; choose fewer')
        self.turns = list(self.starts
                          or [phase_end(distilled_epochs, index, teachers) for index in range(teachers)])

    def before_train(self, runner) -> None:
        if not (self.model_of(runner).cohort_config or {}).get('snapshots'):
            raise ConfigError('ProgressiveTeacherHook needs a cohort that is given as a config with a list '
                              'of `snapshots`')
        super().before_train(runner)
        self.turn: int | None = None
        self.before_train_epoch(runner)

    def before_train_epoch(self, runner) -> None:
        model, turn = self.model_of(runner), bisect_right(self.turns, runner.epoch) - 1
        if model.stopped or turn == self.turn:
            return
        self.turn = turn
        snapshot = model.cohort_config['snapshots'][turn]
        model.replace_cohort(dict(model.cohort_config, snapshots=[snapshot]))
        runner.logger.info(f'After {runner.epoch} epochs teacher {turn + 1} of {len(self.turns)} takes over: '
                           f'{snapshot}')
