"""ResNet-8 for CIFAR-10 (He et al., arXiv 1512.03385), shortcuts without weights as there; a network of
ESKD, Table 4.
"""
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ckd_mm.CIFARResNet', depth=8, shortcut='A'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=64, loss=dict(type='CrossEntropyLoss')))
