"""ResNet-110 for CIFAR-100 (He et al., arXiv 1512.03385), shortcuts without weights as there and in
CheckpointKD's code.
"""
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ckd_mm.CIFARResNet', depth=110, shortcut='A'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=100, in_channels=64, loss=dict(type='CrossEntropyLoss')))
