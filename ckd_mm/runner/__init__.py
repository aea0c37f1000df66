from .checkpoint_distill_runner import CheckpointDistillRunner
from .preflight import preflight
from .resumable_loop import ResumableEpochLoop
from .settings import DistillationPlan
from .student_task import StudentTask, selection_context

__all__ = ['CheckpointDistillRunner', 'DistillationPlan', 'ResumableEpochLoop', 'StudentTask', 'preflight', 'selection_context']
