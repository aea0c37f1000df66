"""A teacher that advances along its own trajectory."""

from bisect import bisect_right
from collections.abc import Sequence

from ..errors import ConfigError
from ..registry import HOOKS
from ..trajectory import phase_end
from .schedule_hook import ScheduleHook


@HOOKS.register_module()
class ProgressiveTeacherHook(ScheduleHook):
    """The snapshots of the cohort teach one after another, in the order of the list, one in memory at a time.

    Route-constrained optimisation (RCO; Jin et al., ICCV 2019, arXiv 1904.09149); why it helps: "Progressive
    distillation induces an implicit curriculum" (Panigrahi et al., ICLR 2025, arXiv 2410.05464).

    Args:
        starts: finished epochs (or iterations) of the student at which each snapshot takes over, the first 0,
            say [0, 60, 120]; default: spread evenly over the epochs with distillation.
    """

    changes_teacher = True

    def __init__(self, starts: Sequence[int] | None = None) -> None:
        if starts is not None and (not isinstance(starts, (list, tuple)) or list(starts[:1]) != [0] or any(
                type(start) is not int for start in starts) or sorted(set(starts)) != list(starts)):
            raise ConfigError(f'ProgressiveTeacherHook: starts={starts!r} should be rising epochs (or '
                              'iterations) of the student, the first 0')
        self.starts = starts
        self.turn: int | None = None  # index of the snapshot that teaches

    def check(self, length, distilled, teachers) -> None:
        starts = None if self.starts is None else list(self.starts)
        if starts and starts[-1] >= distilled:
            raise ConfigError(f'ProgressiveTeacherHook: starts={starts}: the last teacher would never teach, '
                              f'there are {distilled.text} with distillation')
        if teachers is None:
            return
        if teachers < 2:
            raise ConfigError('ProgressiveTeacherHook: one snapshot cannot take turns; let the selector '
                              "choose several, say selector=dict(type='even', k=4)")
        if starts and len(starts) != teachers:
            raise ConfigError(f'ProgressiveTeacherHook: starts={starts} should be {teachers} '
                              f'{distilled.words}, one for each snapshot')
        if teachers > distilled:
            raise ConfigError(f'ProgressiveTeacherHook: {teachers} snapshots cannot take turns in '
                              f'{distilled.text} with distillation; choose fewer')

    def before_train(self, runner) -> None:
        super().before_train(runner)
        self.snapshots = (self.model.cohort_config or {}).get('snapshots')
        if not self.snapshots:
            raise ConfigError('ProgressiveTeacherHook needs a cohort that is given as a config with a list '
                              'of `snapshots`')
        self.turns = self.starts or [phase_end(self.distilled, index, len(self.snapshots))
                                     for index in range(len(self.snapshots))]

    def before_one(self, runner, done) -> None:
        turn = bisect_right(self.turns, done) - 1
        if self.model.stopped or turn == self.turn:
            return
        self.turn = turn
        self.model.replace_cohort(dict(self.model.cohort_config, snapshots=[self.snapshots[turn]]))
        runner.logger.info(f'After {done} {self.length.words} teacher {turn + 1} of {len(self.turns)} takes '
                           f'over: {self.snapshots[turn]}')
