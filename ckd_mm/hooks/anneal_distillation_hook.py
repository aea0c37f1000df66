"""A distillation weight that changes while the student learns."""

import math

from ..errors import ConfigError
from ..registry import HOOKS
from ..validate import check_number
from .schedule_hook import ScheduleHook

CURVES = {'linear': lambda part: part, 'cosine': lambda part: (1 - math.cos(math.pi * part)) / 2}


def annealed(first: float, last: float, part: float, mode: str) -> float:
    """Weight at ``part`` of the way, held at 0 and 1: exactly ``first`` at its beginning, exactly ``last`` at
    its end."""
    share = CURVES[mode](min(max(part, 0.0), 1.0))
    return (1 - share) * first + share * last


@HOOKS.register_module()
class AnnealDistillationHook(ScheduleHook):
    """The weight of the distillation loss goes from the model's ``kd_weight`` to ``end_value`` between two
    epochs.

    It may also rise: ``begin=0, end=20, start_value=0, end_value=1`` is the warm-up of DKD (Zhao et al., CVPR
    2022, whose code raises the weight once an epoch).

    With ``ce_weight=0``, ``kd_weight=1`` and ``ce_end_value=1`` this is the teacher annealing of BAM (Clark
    et al., ACL 2019, arXiv 1907.04829, Sec. 3.2), whose target goes from the teacher's to the label:
    cross-entropy is linear in its target.

    The weight changes in every iteration and depends only on the place, ``epoch + batch / batches an epoch``,
    so a resumed run needs no state. At ``end`` of a way to 0 the teacher is released, and a ``distiller``
    with it; the cross-entropy then keeps the weight that it has reached, whatever the model's
    ``ce_weight_after_stop``.

    Args:
        begin: finished epochs before the weight starts to change.
        end: finished epochs after which it has changed.
        end_value: the weight from then on, at least 0.
        mode: 'linear', or 'cosine' (half a period, slow at both ends).
        ce_end_value: takes the weight of the student's own loss along, from ``ce_weight`` to this; None: it
            stays as it is.
        start_value: the weight until ``begin``, at least 0, instead of the model's ``kd_weight``.
    """

    def __init__(self, begin: int, end: int, end_value: float = 0.0, mode: str = 'linear',
                 ce_end_value: float | None = None, start_value: float | None = None) -> None:
        for name, value in dict(begin=begin, end=end).items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ConfigError(f'AnnealDistillationHook: {name}={value!r} should be a whole number of '
                                  'epochs, at least 0')
        if begin >= end:
            raise ConfigError(f'AnnealDistillationHook: begin={begin} should be before end={end}')
        if mode not in CURVES:
            raise ConfigError(f'AnnealDistillationHook: mode={mode!r} should be one of {tuple(CURVES)}')
        check_number('AnnealDistillationHook: end_value', end_value, at_least=0)
        if ce_end_value is not None:
            check_number('AnnealDistillationHook: ce_end_value', ce_end_value, at_least=0)
        if start_value is not None:
            check_number('AnnealDistillationHook: start_value', start_value, at_least=0)
            if start_value == end_value == 0:
                raise ConfigError('AnnealDistillationHook: start_value and end_value are both 0, so no '
                                  'teacher would ever teach')
        self.begin, self.end, self.mode = begin, end, mode
        self.end_value, self.ce_end_value = end_value, ce_end_value
        self.start_value = start_value
        self.first: tuple[float, float] | None = None

    @property
    def stops(self) -> bool:
        return self.end_value == 0

    @property
    def stop_epoch_known(self) -> int | None:
        return self.end if self.stops else None

    def check(self, max_epochs, distilled_epochs, teachers) -> None:
        if self.end > max_epochs:
            raise ConfigError(f'AnnealDistillationHook: end={self.end} is never reached: the run has '
                              f'{max_epochs} epochs')

    def before_train(self, runner) -> None:
        super().before_train(runner)
        model = self.model_of(runner)
        if self.end_value > 0 and not model.has_teachers:
            raise ConfigError(f'AnnealDistillationHook: end_value={self.end_value} needs teachers, but the '
                              'model has no cohort; give one')
        if self.first is None:
            start = model.kd_weight if self.start_value is None else self.start_value
            self.first = (start, model.ce_weight)  # as configured: checkpoints hold no weights of losses
        self.before_train_epoch(runner)

    def before_train_epoch(self, runner) -> None:
        self._set_weights(runner, runner.epoch)
        if self.stops and runner.epoch >= self.end:
            model = self.model_of(runner)
            model.ce_weight_after_stop = model.ce_weight
            self.stop(runner, f'after {self.end} epochs, its weight having gone to 0')

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self._set_weights(runner, runner.epoch + batch_idx / len(runner.train_dataloader))

    def _set_weights(self, runner, place: float) -> None:
        model, part = self.model_of(runner), (place - self.begin) / (self.end - self.begin)
        model.kd_weight = annealed(self.first[0], self.end_value, part, self.mode)
        if self.ce_end_value is not None:
            model.ce_weight = annealed(self.first[1], self.ce_end_value, part, self.mode)
