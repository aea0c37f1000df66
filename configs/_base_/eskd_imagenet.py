"""ESKD's experiments on ImageNet (Sec. 4) without the teachers: the student ResNet-18, data, recipe, and its
measures of how well a student follows.

KD error and KD loss on the validation images come with every validation, ``kd/error`` and
``kd/divergence``; on the training images, as they are learned from, once an epoch (Table 3). The last
checkpoint of the teacher teaches.
"""
_base_ = [
    'models/resnet18.py', 'datasets/imagenet_bs32.py', 'schedules/imagenet_100e.py', 'default_runtime.py'
]

val_evaluator = [dict(type='Accuracy', topk=(1, 5)), dict(type='ckd_mm.KDMetric')]
test_evaluator = val_evaluator
custom_hooks = [dict(type='ckd_mm.TrainAgreementHook')]
# an epoch takes long: a killed run loses at most 1,000 iterations of it
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1000))

teacher = dict(snapshots=dict(phases=1))
selector = 'last'
