"""WRN-16-2 for CIFAR-10 (Zagoruyko and Komodakis, arXiv 1605.07146)."""
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ckd_mm.WideResNet', depth=16, widen_factor=2),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=128, loss=dict(type='CrossEntropyLoss')))
