from .checkpoint_distill_runner import CheckpointDistillRunner
from .distillation_plan import DistillationPlan
from .mutual_plan import MutualPlan
from .plans import make_plan
from .preflight import preflight
from .resumable_loop import ResumableEpochLoop
from .student_plan import PlainPlan
from .student_task import StudentTask, selection_context

__all__ = [
    'CheckpointDistillRunner', 'DistillationPlan', 'MutualPlan', 'PlainPlan', 'ResumableEpochLoop',
    'StudentTask', 'make_plan', 'preflight', 'selection_context'
]
