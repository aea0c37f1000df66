"""What every selector has in common: snapshots in, who teaches and why out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..counting import Length
from ..errors import ConfigError
from ..infoplane.plane import InformationPlane
from ..infoplane.probe import Probe
from ..registry import SELECTORS
from ..trajectory import Snapshot, Trajectory, phase_end


@dataclass
class Selection:
    """The snapshots that teach, in the order of their times, and why."""
    snapshots: list[Snapshot]
    reason: str
    # of each candidate ``epoch`` (or iteration), ``score`` (more is better) and what it was made of
    scores: list[dict[str, Any]] = field(default_factory=list)
    score_unit: str | None = None
    # forward passes of one image through the teacher, counted in operations; a backward pass is two of them
    cost: dict[str, float] = field(default_factory=lambda: dict(teacher_forwards=0.0, seconds=0.0))


@dataclass
class SelectionContext:
    """What a selector may read besides the snapshots."""
    plane: InformationPlane | None = None  # of the trajectory, where ``needs_plane``
    probe: Probe | None = None  # images that the teacher was not trained on, where ``needs_images``
    student: Any = None  # a :class:`ckd_mm.stages.student_task.StudentTask`, where ``needs_student``
    folder: Path | None = None  # for scores, so that a killed selection can be resumed
    log: Callable[[str], None] = print


class Selector:
    """Chooses epochs, then snapshots. Where a training counts iterations, what is an epoch here is one."""

    runs = 1  # trainings of the teacher that it chooses among
    needs_plane = needs_images = needs_student = False  # of the :class:`SelectionContext`

    @property
    def measures(self) -> bool:
        """Whether it looks at more than the epochs, so that nobody knows its choice before."""
        return self.needs_plane or self.needs_images

    def candidates(self, trajectories: Sequence[Trajectory]) -> list[Snapshot]:
        """All snapshots where it measures, else those that it will choose."""
        if self.measures:
            return [snapshot for trajectory in trajectories for snapshot in trajectory]
        selections = self.select_all(trajectories, [SelectionContext()] * len(trajectories))
        return [snapshot for selection in selections for snapshot in selection.snapshots]

    def epochs(self, available: Sequence[int], max_epochs: Length) -> list[int]:
        """The candidates among the ``available`` snapshot epochs of a run of ``max_epochs``; default: all.
        Raises ConfigError if the trajectory lacks one."""
        return sorted(available)

    def wanted(self, max_epochs: Length, run: int = 0) -> list[int]:
        """Epochs at which the ``run``-th training of a teacher must leave a snapshot, if known before."""
        return []

    def check(self, available: Sequence[Sequence[int]], max_epochs: Sequence[Length]) -> None:
        """Raises ConfigError if it cannot choose among the ``available`` epochs of each trajectory."""
        for epochs, last in zip(available, max_epochs):
            self.epochs(epochs, last)

    def score_of_epoch(self, epoch: int, max_epochs: Length) -> float | None:
        """The score of a snapshot where it follows from the epoch alone."""
        return None

    def reason(self, epochs: Sequence[int], max_epochs: Length) -> str:
        raise NotImplementedError

    def choose(self, trajectory: Trajectory) -> tuple[list[int], Length]:
        """Epochs of a trajectory that exists, and the length of the training that they are of."""
        return self.epochs(trajectory.times, trajectory.length), trajectory.length

    def select(self, trajectory: Trajectory, context: SelectionContext | None = None) -> Selection:
        """Choose among the snapshots of one trajectory."""
        epochs, last = self.choose(trajectory)
        scores = [dict(epoch=epoch, score=self.score_of_epoch(epoch, last)) for epoch in trajectory.times]
        reason = self.reason(epochs, last) + stopped_early(trajectory)
        return Selection([trajectory.at(epoch) for epoch in epochs], reason,
                         [row for row in scores if row['score'] is not None], trajectory.length.words)

    def select_all(self, trajectories: Sequence[Trajectory],
                   contexts: Sequence[SelectionContext]) -> list[Selection]:
        """One selection for each of several trajectories; all chosen snapshots teach together."""
        return [self.select(trajectory, context) for trajectory, context in zip(trajectories, contexts)]


def phase_ends(max_epochs: Length, k: int) -> list[int]:
    """Raises ConfigError if there are fewer epochs than phases."""
    length = Length(max_epochs)
    if k > length:
        raise ConfigError(f'selector: k={k} snapshots at the ends of equal phases, but the teacher trains '
                          f'for only {length.text}; lower k, or raise '
                          f'teacher.train_cfg.max_{length.unit}s')
    return [phase_end(max_epochs, phase, k) for phase in range(1, k + 1)]


def chosen_phase_ends(wanted: list[int], trajectory: Trajectory) -> list[int]:
    """The ``wanted`` ends of phases; that of the phase in which the training was stopped early is its last
    epoch. Raises ConfigError if one is missing, or further phases were never begun."""
    ends = sorted({int(min(epoch, trajectory.length)) for epoch in wanted})
    if len(ends) < len(wanted):
        raise never_trained(wanted, trajectory)
    return require_available(ends, trajectory.times, trajectory.length)


def never_trained(wanted: list[int], trajectory: Trajectory) -> ConfigError:
    """Where a training was stopped before it came to epochs that a selector wants."""
    times, length = trajectory.times, trajectory.length
    return ConfigError(f'selector: wants {length.words} {wanted}{stopped_early(trajectory)}, and left '
                       f"snapshots of {times}. Choose among these, selector=dict(type='{length.unit}', "
                       f"{length.unit}s={times[-len(wanted):]}) or selector='last', and pass --resume: the "
                       'teacher is kept')


def stopped_early(trajectory: Trajectory) -> str:
    """For the reason of a choice; empty if it was not."""
    length, planned = trajectory.length, trajectory.planned
    return '' if planned == length else \
        f'; the training was stopped early, after {length} of {planned.text}'


def require_available(wanted: list[int], available: Sequence[int], length: Length) -> list[int]:
    """The wanted epochs of a training of this length; raises ConfigError if one is missing."""
    missing = [epoch for epoch in wanted if epoch not in available]
    if missing:
        raise ConfigError(f'selector: wants {Length(length).words} {wanted}, but the trajectory has no '
                          f'snapshot at {missing}; it has {sorted(available)}. Choose among these, or take '
                          'snapshots there (teacher.snapshots)')
    return wanted


def build_selector(config: str | dict) -> Selector:
    """From ``'half_way'`` or ``dict(type='even', k=2)``; raises ConfigError for unknown types or settings."""
    config = dict(type=config) if isinstance(config, str) else dict(config or {})
    kind = config.pop('type', None)
    selector = SELECTORS.get(kind) if kind and isinstance(kind, str) else None
    if selector is None:
        raise ConfigError(f'selector: type={kind!r} should be one of {sorted(SELECTORS.module_dict)}')
    try:
        return selector(**config)
    except TypeError as error:
        raise ConfigError(f'selector: {kind} does not take these settings: {error}. Settings of another '
                          'selector go with its selector.type') from error
