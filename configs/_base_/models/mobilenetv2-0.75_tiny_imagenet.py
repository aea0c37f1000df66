"""MobileNetV2 of width 0.75 for Tiny-ImageNet: that of CIFAR."""
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ckd_mm.MobileNetV2CIFAR', widen_factor=0.75),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=200, in_channels=1280, loss=dict(type='CrossEntropyLoss')))
