"""The measured plane of one trajectory, and T*."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..counting import EPOCH, ITER
from ..errors import CkdError
from ..files import plain, write_json
from ..record import read_as, read_record, require_same_settings
from ..settings import Settings, setting

PLANE = 'information_plane.json'
FORMAT = 'ckd_mm.information_plane/1'
IMAGES = ('images', 'images_sha256')  # notes that tell which images were measured


@dataclass(frozen=True)
class PlanePoint:
    """One snapshot on the plane.

    Args:
        epoch: finished epochs, or iterations where the trajectory counts these.
        information_x: I(X;F) up to a constant, nats per pixel and channel: ``baseline_loss`` less
            ``reconstruction_loss``.
        information_y: I(Y;F), accuracy from 0 to 1.
        sha256: of the snapshot.
        seconds, teacher_forwards: cost of measuring, by the clock and in forward passes of one image.
    """
    epoch: int
    information_x: float
    information_y: float
    reconstruction_loss: float | None = None
    baseline_loss: float | None = None
    sha256: str | None = None
    seconds: float | None = None
    teacher_forwards: float | None = None


@dataclass(frozen=True, kw_only=True)
class PlaneFacts(Settings):
    """What must stand in the file."""
    example = 'dict(points=[...])'
    points: list = setting(help='a dict for each', remedy='every plane has them')
    settings: dict = setting(help='what the numbers depend on', remedy='every plane has them')
    notes: dict | None = setting(None, help='for the reader')

    def check(self, name: str) -> None:
        for index, point in enumerate(self.points):
            read_as(PlanePoint, f'points[{index}]', point)


def min_max(values: Sequence[float]) -> list[float]:
    """Scaled to [0, 1]; all 0 where they do not differ, so that such an axis decides nothing."""
    low, high = min(values), max(values)
    return [0.0 if high == low else (value - low) / (high - low) for value in values]


class InformationPlane:
    """Points of the snapshots of one trajectory, in the order of their epochs.

    Args:
        settings: all that the numbers depend on besides the snapshots.
        notes: facts for the reader (which split, how many images; ``unit='iter'`` where the trajectory counts
            iterations).
    """

    def __init__(self, points: Sequence[PlanePoint] = (), settings: dict[str, Any] | None = None,
                 notes: dict[str, Any] | None = None) -> None:
        self.points = sorted(points, key=lambda point: point.epoch)
        self.settings = plain(settings or {})
        self.notes = plain(notes or {})

    def normalised(self) -> list[dict[str, float]]:
        """Both axes min-max scaled over the trajectory, and their sum: ``epoch``, ``x``, ``y``, ``sum``."""
        xs, ys = (min_max([getattr(point, axis) for point in self.points])
                  for axis in ('information_x', 'information_y'))
        return [dict(epoch=point.epoch, x=x, y=y, sum=x + y) for point, x, y in zip(self.points, xs, ys)]

    @property
    def best_epoch(self) -> int:
        """T*: the epoch of most normalised I(X;F) + I(Y;F) (Eq. 11); of equals the earliest."""
        if not self.points:
            raise CkdError('the information plane is empty: no snapshot was probed')
        return max(self.normalised(), key=lambda row: (row['sum'], -row['epoch']))['epoch']

    @property
    def unit(self) -> str:
        """What the trajectory counts."""
        return ITER if self.notes.get('unit') == ITER else EPOCH

    @property
    def uninformed(self) -> list[int]:
        """Epochs at which the decoder did no better than the mean image, so that nothing was measured."""
        return [point.epoch for point in self.points if point.information_x <= 0]

    def add(self, point: PlanePoint) -> None:
        """Add or replace the point of that epoch."""
        others = [kept for kept in self.points if kept.epoch != point.epoch]
        self.points = sorted([*others, point], key=lambda kept: kept.epoch)

    def has(self, epoch: int, sha256: str | None) -> bool:
        return any(point.epoch == epoch and point.sha256 == sha256 for point in self.points)

    def save(self, path: Path) -> None:
        write_json(path, dict(
            format=FORMAT, notes=self.notes, settings=self.settings,
            units=dict(information_x='nats per pixel and channel', information_y='accuracy, 0 to 1'),
            best_epoch=self.best_epoch if self.points else None,
            points=[asdict(point) for point in self.points],
            normalised=self.normalised() if self.points else []))

    @classmethod
    def load(cls, path: Path) -> 'InformationPlane':
        """Raises CkdError if the file is missing, damaged or of another kind."""
        found = read_record(path, FORMAT, 'information plane', facts=PlaneFacts)
        return cls([PlanePoint(**point) for point in found['points']], found['settings'], found.get('notes'))

    @classmethod
    def continue_from(cls, path: Path, settings: dict[str, Any], notes: dict[str, Any]) -> 'InformationPlane':
        """The plane at ``path``, or an empty one. Raises ConfigError if it was measured with other settings
        or on other images, as such points cannot be compared."""
        if not Path(path).exists():
            return cls((), settings, notes)
        found = cls.load(path)
        require_same_settings(path, found.settings, settings, 'measured', 'the file')
        before, now = ({key: noted[key] for key in IMAGES if key in found.notes and key in notes}
                       for noted in (found.notes, notes))
        require_same_settings(path, before, now, 'measured', 'the file')
        found.notes = found.notes or plain(notes)
        return found
