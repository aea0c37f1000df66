"""DenseNet-40-12 for CIFAR-10: 40 layers, growth rate 12 (Huang et al., CVPR 2017, arXiv 1608.06993)."""
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ckd_mm.DenseNetCIFAR', depth=40, growth_rate=12),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=448, loss=dict(type='CrossEntropyLoss')))
