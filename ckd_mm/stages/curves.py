"""Accuracy by epoch."""

from pathlib import Path

from ..errors import CkdError
from ..report.page import read_curve
from ..trajectory import Trajectory


def validation_curve(folder: Path, trajectories: list[Trajectory]) -> list:
    """Of a training in ``folder``; of one that was done elsewhere, what its first trajectory recorded."""
    curve = read_curve(folder)
    if curve:
        return curve
    try:
        return [(snapshot.epoch, snapshot.accuracy) for snapshot in trajectories[0] if snapshot.accuracy is not None]
    except CkdError:
        return []
