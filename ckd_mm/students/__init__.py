"""Models that train a student: from a cohort of teachers, from hints, from each other."""

from .checkpoint_distill import CheckpointDistill
from .distiller import Distiller, FeatureDistiller
from .hint_training import HintTraining
from .mutual_learning import DeepMutualLearning

__all__ = ['CheckpointDistill', 'DeepMutualLearning', 'Distiller', 'FeatureDistiller', 'HintTraining']
