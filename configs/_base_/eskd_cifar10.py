"""ESKD's experiments on CIFAR-10 (Sec. 4) without the networks: data, recipe, and its measures of how well a student follows.

KD error and KD loss on the test images come with every validation, ``kd/error`` and ``kd/divergence``; on the training images, as they
are learned from, once an epoch (Table 2).
"""
_base_ = ['datasets/cifar10_bs128.py', 'schedules/eskd_cifar_200e.py', 'default_runtime.py']

val_evaluator = [dict(type='Accuracy', topk=(1, )), dict(type='ckd_mm.KDMetric')]
test_evaluator = val_evaluator
custom_hooks = [dict(type='ckd_mm.TrainAgreementHook')]
