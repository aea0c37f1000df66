from .checkpoint_distill import CheckpointDistill
from .head_training import HeadTraining
from .hint_training import HintTraining
from .mutual_learning import DeepMutualLearning

__all__ = ['CheckpointDistill', 'DeepMutualLearning', 'HeadTraining', 'HintTraining']
