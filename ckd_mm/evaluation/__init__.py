from .class_correlation import class_correlation, correlation_maps, diversity
from .evaluate import evaluate, top1
from .kd_metric import KDMetric
from .logits import predict_logits
from .members import evaluate_members, member_probabilities
from .peer_accuracy import PeerAccuracy

__all__ = ['KDMetric', 'PeerAccuracy', 'class_correlation', 'correlation_maps',
           'diversity', 'evaluate', 'evaluate_members', 'member_probabilities', 'predict_logits', 'top1']
