"""What it takes to train the teachers and to distil from them, as in Figure 3 of CheckpointKD."""

from collections.abc import Sequence
from typing import Any

from ..trajectory import Snapshot


def training_cost(snapshots: Sequence[Snapshot]) -> dict[str, float | None]:
    """Of one training, up to the last of its snapshots that teach: ``epochs``, and ``hours`` where they were
    measured.

    What was trained beyond it is not needed by the student and is not counted: a half-way teacher costs half
    a training.
    """
    if not snapshots:
        return dict(epochs=0, hours=0.0)
    last = max(snapshots, key=lambda snapshot: snapshot.epoch)
    return dict(epochs=last.epoch, hours=None if last.seconds is None else last.seconds / 3600)


def run_cost(teachers: list[dict[str, Any]], student_epochs: int, student_seconds: float, students: int = 1,
             head_epochs: int = 0, head_seconds: float = 0.0) -> dict[str, float | None]:
    """Epochs and hours of all teachers with their heads, of the distillation, and of both.

    Args:
        teachers: :func:`training_cost` of each trajectory.
        student_epochs: of all students together: assistants and generations learn before the last.
        head_epochs: of classifier heads on a frozen teacher; an epoch of them is cheaper than one of the
            teacher.
    """
    hours = None if any(teacher['hours'] is None for teacher in teachers) else sum(teacher['hours'] for teacher in teachers) + \
        head_seconds / 3600
    epochs = sum(teacher['epochs'] for teacher in teachers)
    found = dict(teacher_epochs=epochs, teacher_hours=hours, student_epochs=student_epochs,
                 student_hours=student_seconds / 3600, total_epochs=epochs + head_epochs + student_epochs,
                 total_hours=None if hours is None else hours + student_seconds / 3600)
    if students > 1:
        found['students'] = students
    if head_epochs:
        found['head_epochs'] = head_epochs
    return found
