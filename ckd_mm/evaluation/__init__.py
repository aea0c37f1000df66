from .evaluate import check_promised_accuracy, evaluate, top1

__all__ = ['check_promised_accuracy', 'evaluate', 'top1']
