from .base_cohort import BaseCohort
from .snapshot_ensemble import SnapshotEnsemble

__all__ = ['BaseCohort', 'SnapshotEnsemble']
