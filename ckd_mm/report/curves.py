"""Curves out of mmengine's logs."""

import json
from pathlib import Path

from ..trajectory.snapshot import ACCURACY


def read_curve(folder: Path, metric: str = ACCURACY) -> list[list[float]]:
    """Points [epoch, ``metric``] of the validations that mmengine logged below ``folder``; of an epoch that
    was run twice the later one."""
    points: dict[float, float] = {}
    for log in sorted(Path(folder).glob('*/vis_data/scalars.json')):
        for line in log.read_text(encoding='utf-8').splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue  # the last line of a killed run
            if metric in row and 'step' in row:
                points[row['step']] = row[metric]
    return [list(point) for point in sorted(points.items())]
