from .checkpoint_distill_runner import CheckpointDistillRunner
from .preflight import preflight
from .settings import DistillationPlan

__all__ = ['CheckpointDistillRunner', 'DistillationPlan', 'preflight']
