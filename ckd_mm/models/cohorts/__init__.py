from .base_cohort import BaseCohort
from .dih_teacher import DIHTeacher
from .head_file import HeadFile, read_heads, write_heads
from .snapshot_ensemble import SnapshotEnsemble

__all__ = ['BaseCohort', 'DIHTeacher', 'HeadFile', 'SnapshotEnsemble', 'read_heads', 'write_heads']
