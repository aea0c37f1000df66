from .algorithms import CheckpointDistill, DeepMutualLearning, HeadTraining, HintTraining
from .backbones import CIFARResNet, DenseNetCIFAR, MobileNetV2CIFAR, WideResNet
from .cohorts import BaseCohort, DIHTeacher, SnapshotEnsemble
from .heads import IntermediateHead
from .losses import CohortKDLoss, DecoupledKDLoss, cohort_kd_loss, decoupled_kd_loss

__all__ = [
    'BaseCohort', 'CIFARResNet', 'CheckpointDistill', 'CohortKDLoss', 'DIHTeacher', 'DecoupledKDLoss', 'DeepMutualLearning',
    'DenseNetCIFAR', 'HeadTraining', 'HintTraining', 'IntermediateHead', 'MobileNetV2CIFAR', 'SnapshotEnsemble', 'WideResNet',
    'cohort_kd_loss', 'decoupled_kd_loss'
]
