from .algorithms import CheckpointDistill
from .backbones import CIFARResNet, MobileNetV2CIFAR, WideResNet
from .cohorts import BaseCohort, SnapshotEnsemble
from .losses import CohortKDLoss, cohort_kd_loss

__all__ = [
    'BaseCohort', 'CIFARResNet', 'CheckpointDistill', 'CohortKDLoss', 'MobileNetV2CIFAR', 'SnapshotEnsemble', 'WideResNet', 'cohort_kd_loss'
]
