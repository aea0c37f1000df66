"""Selectors that read nothing but the epoch."""

from collections.abc import Sequence

from ..counting import EPOCH, ITER, WORDS, Length
from ..errors import ConfigError
from ..registry import SELECTORS
from ..validate import check_int, check_number
from .selector import Selector, chosen_phase_ends, never_trained, phase_ends, require_available, stopped_early


@SELECTORS.register_module(name='last')
class LastSelector(Selector):
    """The fully trained teacher, as in ordinary distillation."""

    def epochs(self, available, max_epochs):
        return [max(available)]

    def score_of_epoch(self, epoch, max_epochs):
        return float(epoch)

    def reason(self, epochs, max_epochs):
        return f'the last snapshot, after {epochs[0]} of {max_epochs.text}'


@SELECTORS.register_module(name='epoch')
class EpochSelector(Selector):
    """Listed epochs.

    Args:
        epochs: one epoch or several, counted from 1; several make an ensemble.
    """

    unit = EPOCH

    def __init__(self, epochs: int | Sequence[int]) -> None:
        listed, word = [epochs] if isinstance(epochs, int) else list(epochs), WORDS[self.unit]
        if not listed or any(type(epoch) is not int or epoch < 1 for epoch in listed):
            raise ConfigError(f'selector: {self.unit}s={epochs!r} should be one {word} or a list of {word}s, '
                              'counted from 1')
        self.listed = sorted(set(listed))

    def epochs(self, available, max_epochs):
        return require_available(self.wanted(max_epochs), available, max_epochs)

    def choose(self, trajectory):
        if stopped_early(trajectory) and self.listed[-1] > trajectory.length:
            raise never_trained(self.listed, trajectory)
        return super().choose(trajectory)

    def wanted(self, max_epochs, run=0):
        length = Length(max_epochs)
        if length.unit != self.unit:
            raise ConfigError(f'selector: {self.unit}s={self.listed}, but the teacher was trained by '
                              f"{length.words}: selector=dict(type='{length.unit}', {length.unit}s=[...])")
        return self.listed

    def reason(self, epochs, max_epochs):
        return f'named by `selector.{self.unit}s`'


@SELECTORS.register_module(name='iter')
class IterSelector(EpochSelector):
    """Listed iterations, of a teacher that was trained by iterations.

    Args:
        iters: one or several, counted from 1; several make an ensemble.
    """

    unit = ITER

    def __init__(self, iters: int | Sequence[int]) -> None:
        super().__init__(iters)


@SELECTORS.register_module(name='fraction')
class FractionSelector(Selector):
    """The snapshot nearest to a fraction of the training; of two equally near the later.

    Args:
        fraction: above 0, at most 1; 0.3, 0.5 and 0.7 make T^0.3, T^0.5 and T^0.7 (Table 3 of CheckpointKD).
    """

    def __init__(self, fraction: float) -> None:
        self.fraction = check_number('selector: fraction', fraction, above=0, at_most=1)

    def epochs(self, available, max_epochs):
        wanted = self.fraction * max_epochs
        return [min(available, key=lambda epoch: (round(abs(epoch - wanted), 6), -epoch))]

    def score_of_epoch(self, epoch, max_epochs):
        return -abs(epoch - self.fraction * max_epochs)

    def reason(self, epochs, max_epochs):
        wanted = self.fraction * max_epochs
        nearest = '' if epochs[0] == wanted else '; there is no snapshot just there, this is the nearest'
        return f'{self.fraction:g} of {max_epochs.text} is {wanted:g}{nearest}'


@SELECTORS.register_module(name='half_way')
class HalfWaySelector(FractionSelector):
    """The half-way teacher T^0.5 (CheckpointKD, Sec. 3.3): free, and the paper's advice where choosing is
    tedious."""

    def __init__(self) -> None:
        super().__init__(0.5)


@SELECTORS.register_module(name='even')
class EvenSelector(Selector):
    """The Snapshot Ensemble of size k: the ends of k equal phases teach (CheckpointKD, Sec. 3.4)."""

    def __init__(self, k: int) -> None:
        self.k = check_int('selector: k', k, 1)

    def epochs(self, available, max_epochs):
        return require_available(self.wanted(max_epochs), available, max_epochs)

    def choose(self, trajectory):
        planned = trajectory.planned
        return chosen_phase_ends(self.wanted(planned), trajectory), planned

    def wanted(self, max_epochs, run=0):
        return phase_ends(max_epochs, self.k)

    def reason(self, epochs, max_epochs):
        return f'the ends of {self.k} equal phases of {max_epochs.text}'
