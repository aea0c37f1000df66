"""MobileNetV2 of width 0.75 for CIFAR-100, as papers on distillation have it."""
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ckd_mm.MobileNetV2CIFAR', widen_factor=0.75),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=100, in_channels=1280, loss=dict(type='CrossEntropyLoss')))
