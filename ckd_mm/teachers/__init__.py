"""Cohorts of frozen teachers, and the heads that are trained on one."""

from .base_cohort import BaseCohort, build_cohort
from .dih_teacher import DIHTeacher
from .head_file import HeadFile, read_heads, write_heads
from .head_training import HeadTraining
from .intermediate_head import IntermediateHead, default_kind
from .snapshot_ensemble import SnapshotEnsemble

__all__ = ['BaseCohort', 'DIHTeacher', 'HeadFile', 'HeadTraining', 'IntermediateHead', 'SnapshotEnsemble',
           'build_cohort', 'default_kind', 'read_heads', 'write_heads']
