"""Which snapshots of a trajectory teach."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Union

from ..errors import ConfigError
from ..infoplane.plane import InformationPlane
from ..registry import SELECTORS
from ..trajectory import Snapshot, Trajectory, phase_end


@dataclass
class Selection:
    """
    Args:
        snapshots: who teaches, in the order of their epochs.
        reason: why, for a person.
        scores: one row for each candidate, where the selector has scores.
        score_unit: what the scores are in.
    """
    snapshots: List[Snapshot]
    reason: str
    scores: List[Dict[str, Any]] = field(default_factory=list)
    score_unit: Optional[str] = None


class Selector:
    """Chooses epochs, then snapshots.

    ``needs_plane`` says that :meth:`select` wants the information plane of the trajectory.
    """

    needs_plane = False

    def epochs(self, available: Sequence[int], max_epochs: int) -> List[int]:
        """The wanted ones of the ``available`` snapshot epochs of a run of ``max_epochs``.

        Raises:
            ConfigError: the trajectory lacks one.
        """
        raise NotImplementedError

    def reason(self, epochs: Sequence[int], max_epochs: int) -> str:
        raise NotImplementedError

    def select(self, trajectory: Trajectory, plane: Optional[InformationPlane] = None) -> Selection:
        epochs = self.epochs(trajectory.epochs, trajectory.max_epochs)
        return Selection([trajectory.at(epoch) for epoch in epochs], self.reason(epochs, trajectory.max_epochs))


@SELECTORS.register_module(name='last')
class LastSelector(Selector):
    """The fully trained teacher, as in ordinary distillation."""

    def epochs(self, available, max_epochs):
        return [max(available)]

    def reason(self, epochs, max_epochs):
        return f'the last snapshot, after {epochs[0]} of {max_epochs} epochs'


@SELECTORS.register_module(name='epoch')
class EpochSelector(Selector):
    """Listed epochs.

    Args:
        epochs: one epoch or several, counted from 1; several make an ensemble.
    """

    def __init__(self, epochs: Union[int, Sequence[int]]) -> None:
        self.wanted = [epochs] if isinstance(epochs, int) else list(epochs)
        if not self.wanted or any(not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 1 for epoch in self.wanted):
            raise ConfigError(f'selector: epochs={epochs!r} should be one epoch or a list of epochs, counted from 1')

    def epochs(self, available, max_epochs):
        return _all_there(sorted(set(self.wanted)), available)

    def reason(self, epochs, max_epochs):
        return 'asked for by number'


@SELECTORS.register_module(name='fraction')
class FractionSelector(Selector):
    """The snapshot nearest to a fraction of the training; of two equally near the later.

    Args:
        fraction: above 0, at most 1; 0.3, 0.5 and 0.7 make T^0.3, T^0.5 and T^0.7 (Table 3 of CheckpointKD).
    """

    def __init__(self, fraction: float) -> None:
        if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 < fraction <= 1:
            raise ConfigError(f'selector: fraction={fraction!r} should be above 0 and at most 1')
        self.fraction = fraction

    def epochs(self, available, max_epochs):
        wanted = self.fraction * max_epochs
        return [min(available, key=lambda epoch: (round(abs(epoch - wanted), 6), -epoch))]

    def reason(self, epochs, max_epochs):
        wanted = self.fraction * max_epochs
        nearest = '' if epochs[0] == wanted else '; there is no snapshot just there, this is the nearest'
        return f'{self.fraction:g} of {max_epochs} epochs is {wanted:g}{nearest}'


@SELECTORS.register_module(name='half_way')
class HalfWaySelector(FractionSelector):
    """The half-way teacher T^0.5 (Sec. 3.3 of CheckpointKD): free, and the paper's advice where choosing is tedious."""

    def __init__(self) -> None:
        super().__init__(0.5)


@SELECTORS.register_module(name='even')
class EvenSelector(Selector):
    """The Snapshot Ensemble of size k: the run is cut in k equal phases, and their k ends teach (Sec. 3.4 of CheckpointKD).

    Args:
        k: number of teachers.
    """

    def __init__(self, k: int) -> None:
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise ConfigError(f'selector: k={k!r} should be a whole number of teachers, at least 1')
        self.k = k

    def epochs(self, available, max_epochs):
        if self.k > max_epochs:
            raise ConfigError(f'selector: k={self.k} phases, but the run has only {max_epochs} epochs')
        return _all_there([phase_end(max_epochs, index, self.k) for index in range(1, self.k + 1)], available)

    def reason(self, epochs, max_epochs):
        return f'the ends of {self.k} equal phases of {max_epochs} epochs'


@SELECTORS.register_module(name='information_plane')
class InformationPlaneSelector(Selector):
    """T*, the snapshot with the most information: the maximum of normalised I(X;F) + I(Y;F) (Algorithm 1, Eq. 11)."""

    needs_plane = True

    def epochs(self, available, max_epochs):
        return sorted(available)  # all are candidates

    def select(self, trajectory: Trajectory, plane: Optional[InformationPlane] = None) -> Selection:
        if plane is None:
            raise ConfigError('selector: information_plane needs the information plane of the trajectory: add a `probe` to the '
                              'config, or run tools/probe.py first')
        missing = [snapshot.epoch for snapshot in trajectory if not plane.has(snapshot.epoch, snapshot.sha256)]
        if missing:
            raise ConfigError(f'selector: the information plane lacks the snapshots of epochs {missing} of {trajectory.folder}, or was '
                              'measured on others of these epochs; run the probe again')
        plane = InformationPlane([point for point in plane.points if point.epoch in trajectory.epochs])
        rows, best = plane.normalised(), plane.best_epoch
        top = next(row for row in rows if row['epoch'] == best)
        return Selection([trajectory.at(best)],
                         f'T*: normalised I(X;F) {top["x"]:.3f} + I(Y;F) {top["y"]:.3f} = {top["sum"]:.3f} is the most of '
                         f'{len(rows)} snapshots', [dict(epoch=row['epoch'], score=row['sum']) for row in rows],
                         'sum of two min-max normalised axes, 0 to 2')


def _all_there(wanted: List[int], available: Sequence[int]) -> List[int]:
    missing = [epoch for epoch in wanted if epoch not in available]
    if missing:
        raise ConfigError(f'selector: wants epochs {wanted}, but the trajectory has no snapshot at {missing}; it has '
                          f'{sorted(available)}. Choose among these, or take snapshots there (teacher.snapshots)')
    return wanted


def build_selector(config: Union[str, Dict]) -> Selector:
    """From ``'half_way'`` or ``dict(type='even', k=2)``.

    Raises:
        ConfigError: there is no such selector, or it does not take these settings.
    """
    config = dict(type=config) if isinstance(config, str) else dict(config or {})
    kind = config.pop('type', None)
    selector = SELECTORS.get(kind) if isinstance(kind, str) else None
    if selector is None:
        raise ConfigError(f'selector: type={kind!r} should be one of {sorted(SELECTORS.module_dict)}')
    try:
        return selector(**config)
    except TypeError as error:
        raise ConfigError(f'selector: {kind} does not take these settings: {error}') from error
