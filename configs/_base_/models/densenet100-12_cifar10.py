"""DenseNet-100-12 for CIFAR-10: 100 layers, growth rate 12 (Huang et al., CVPR 2017, arXiv 1608.06993)."""
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ckd_mm.DenseNetCIFAR', depth=100, growth_rate=12),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=1168, loss=dict(type='CrossEntropyLoss')))
