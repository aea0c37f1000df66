"""ResNet-20 for CIFAR-100 as DIH has it: shortcuts are 1x1 convolutions (its Table 1, its authors' code)."""
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ckd_mm.CIFARResNet', depth=20, shortcut='B'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=100, in_channels=64, loss=dict(type='CrossEntropyLoss')))
