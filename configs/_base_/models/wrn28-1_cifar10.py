"""WRN-28-1 for CIFAR-10 (Zagoruyko and Komodakis, arXiv 1605.07146)."""
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ckd_mm.WideResNet', depth=28, widen_factor=1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=64, loss=dict(type='CrossEntropyLoss')))
