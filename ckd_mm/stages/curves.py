"""Accuracy by epoch."""

from pathlib import Path

from ..report.curves import read_curve
from ..trajectory import Trajectory


def validation_curve(folder: Path, trajectories: list[Trajectory]) -> list[list]:
    """Of a training in ``folder``; of one that was done elsewhere, what its first trajectory recorded."""
    return read_curve(folder) or [[snapshot.epoch, snapshot.accuracy] for snapshot in trajectories[0]
                                  if snapshot.accuracy is not None]
