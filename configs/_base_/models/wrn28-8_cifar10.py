"""WRN-28-8 for CIFAR-10 (Zagoruyko and Komodakis, arXiv 1605.07146)."""
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ckd_mm.WideResNet', depth=28, widen_factor=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=512, loss=dict(type='CrossEntropyLoss')))
