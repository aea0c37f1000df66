"""WRN-40-1 for Tiny-ImageNet: that of CIFAR, its feature maps twice as wide and high."""
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ckd_mm.WideResNet', depth=40, widen_factor=1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=200, in_channels=64, loss=dict(type='CrossEntropyLoss')))
