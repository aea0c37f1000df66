"""How a selection is told: who teaches, by which scores, at what cost."""

from collections.abc import Sequence
from typing import Any

from ..report.section import Table
from ..trajectory import Snapshot


def training_cost(snapshots: Sequence[Snapshot]) -> dict[str, float | None]:
    """Of one training, up to the last of its snapshots that teach: ``epochs``, and ``hours`` where they were
    measured (CheckpointKD, Figure 3).

    What was trained beyond it is not needed by the student and is not counted: a half-way teacher costs half
    a training.
    """
    if not snapshots:
        return dict(epochs=0, hours=0.0)
    last = max(snapshots, key=lambda snapshot: snapshot.epoch)
    return dict(epochs=last.epoch, hours=None if last.seconds is None else last.seconds / 3600)


def who_teaches(result: Any, in_turn: bool, members: Sequence[str] = ()) -> str:
    """
    Args:
        members: names of those who teach, where a teacher has heads.
    """
    trainings = [part['epochs'] for part in result.by_trajectory if part['epochs']]
    if len(result.epochs) == 1:
        return f'epoch {result.epochs[0]}' + (f': {", ".join(members)}' if members else '')
    if len(trainings) > 1:
        return 'ensemble of ' + ', '.join(f'epoch {epoch} of training {number}'
                                          for number, part in enumerate(trainings, 1) for epoch in part)
    return ('in turn epochs ' if in_turn else 'ensemble of epochs ') + ', '.join(map(str, result.epochs))


def selector_text(selector: Any) -> str:
    if isinstance(selector, str):
        return selector
    settings = ', '.join(f'{key}={value}' for key, value in selector.items() if key != 'type')
    return selector['type'] + (f'({settings})' if settings else '')


def percent(value: float | None) -> str:
    return 'not measured' if value is None else f'{value:.2f} %'


def score_table(part: dict) -> Table | None:
    """Scores that are measured; those of the information plane stand in its own table, an epoch needs
    none."""
    rows = [row for row in part['scores'] if 'teacher_forwards' in row]
    if not rows:
        return None
    return Table(
        {
            'epoch': 'd', f'score, {part["score_unit"]}': '.6g', 'forward passes': ',.0f', 'seconds': '.1f'
        }, [[row['epoch'], row['score'], row['teacher_forwards'], row['seconds']] for row in rows],
        [index for index, row in enumerate(rows) if row['epoch'] in part['epochs']])
