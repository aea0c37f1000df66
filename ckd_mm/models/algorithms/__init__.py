from .checkpoint_distill import CheckpointDistill

__all__ = ['CheckpointDistill']
