from .class_correlation import class_correlation, class_means, correlation_maps, diversity
from .evaluate import check_promised_accuracy, evaluate, top1
from .logits import predict_logits

__all__ = [
    'check_promised_accuracy', 'class_correlation', 'class_means', 'correlation_maps', 'diversity', 'evaluate', 'predict_logits', 'top1'
]
