"""A distillation weight that changes during training."""

import math

from ..counting import ITER
from ..errors import ConfigError
from ..registry import HOOKS
from ..validate import WEIGHT, check_choice, check_int, check_number
from .schedule_hook import ScheduleHook

CURVES = {'linear': lambda part: part, 'cosine': lambda part: (1 - math.cos(math.pi * part)) / 2}


def annealed(first: float, last: float, part: float, mode: str) -> float:
    """Weight after ``part`` of the change: exactly ``first`` up to 0, exactly ``last`` from 1 on."""
    share = CURVES[mode](min(max(part, 0.0), 1.0))
    return (1 - share) * first + share * last


@HOOKS.register_module()
class AnnealDistillationHook(ScheduleHook):
    """Change the weight of the distillation loss from the model's ``kd_weight`` to ``end_value``, in every
    iteration between two epochs. In a training by iterations ``begin`` and ``end`` count these.

    When it ends at 0, the teachers and the ``distiller`` are released, and the cross-entropy keeps the weight
    that it has reached, whatever ``ce_weight_after_stop``. The weight depends only on epoch and batch, so a
    resumed run needs no state.

    - ``begin=0, end=20, start_value=0, end_value=1``: the warm-up of DKD (Zhao et al., CVPR 2022, whose code
      raises the weight once an epoch).
    - ``ce_weight=0, kd_weight=1, ce_end_value=1``: the teacher annealing of BAM (Clark et al., ACL 2019,
      arXiv 1907.04829, Sec. 3.2), whose target moves from the teacher to the label: cross-entropy is linear
      in its target.

    Args:
        begin: finished epochs before the first change.
        end: finished epochs after the last.
        mode: 'linear', or 'cosine': half a period, slow at both ends.
        ce_end_value: the model's ``ce_weight`` changes to this; None: it does not change.
        start_value: replaces the model's ``kd_weight``.
    """

    changes_weight = True

    def __init__(self, begin: int, end: int, end_value: float = 0.0, mode: str = 'linear',
                 ce_end_value: float | None = None, start_value: float | None = None) -> None:
        name = 'AnnealDistillationHook'
        self.begin = check_int(f'{name}: begin', begin, 0, ' of epochs')
        self.end = check_int(f'{name}: end', end, 0, ' of epochs')
        if begin >= end:
            raise ConfigError(f'{name}: begin={begin} should be before end={end}')
        self.mode = check_choice(f'{name}: mode', mode, tuple(CURVES))
        self.end_value = check_number(f'{name}: end_value', end_value, **WEIGHT)
        for key, value in dict(ce_end_value=ce_end_value, start_value=start_value).items():
            if value is not None:
                check_number(f'{name}: {key}', value, **WEIGHT)
        if start_value == end_value == 0:
            raise ConfigError(f'{name}: start_value and end_value are both 0, so no teacher would ever teach')
        self.ce_end_value, self.start_value = ce_end_value, start_value
        self.stops = end_value == 0
        self.stops_at = end if self.stops else None

    def check(self, length, distilled, teachers) -> None:
        if self.end > length:
            raise ConfigError(f'AnnealDistillationHook: end={self.end} is never reached: the run has '
                              f'{length.text}')

    def before_train(self, runner) -> None:
        super().before_train(runner)
        if self.end_value > 0 and not self.model.has_teachers:
            raise ConfigError(f'AnnealDistillationHook: end_value={self.end_value} needs teachers, but the '
                              'model has no cohort; give one')
        self.first = (self.model.kd_weight if self.start_value is None else self.start_value,
                      self.model.ce_weight)  # of the config: checkpoints hold no weights of losses

    def before_one(self, runner, done) -> None:
        if self.stops and done >= self.end:
            self._set_weights(self.end)
            self.model.ce_weight_after_stop = self.model.ce_weight
            self.stop(runner, f'after {self.end} {self.length.words}, its weight having gone to 0')

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        super().before_train_iter(runner, batch_idx, data_batch)
        self._set_weights(runner.iter if self.length.unit == ITER else
                          runner.epoch + batch_idx / len(runner.train_dataloader))

    def _set_weights(self, done: float) -> None:
        part = (done - self.begin) / (self.end - self.begin)
        self.model.kd_weight = annealed(self.first[0], self.end_value, part, self.mode)
        if self.ce_end_value is not None:
            self.model.ce_weight = annealed(self.first[1], self.ce_end_value, part, self.mode)
