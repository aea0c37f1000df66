from .checkpoint_distill_runner import CheckpointDistillRunner
from .preflight import preflight
from .resumable_loop import ResumableEpochLoop
from .settings import DistillationPlan

__all__ = ['CheckpointDistillRunner', 'DistillationPlan', 'ResumableEpochLoop', 'preflight']
