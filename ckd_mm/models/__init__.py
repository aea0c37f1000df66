from .algorithms import CheckpointDistill
from .cohorts import BaseCohort, SnapshotEnsemble
from .losses import CohortKDLoss, cohort_kd_loss

__all__ = ['BaseCohort', 'CheckpointDistill', 'CohortKDLoss', 'SnapshotEnsemble', 'cohort_kd_loss']
