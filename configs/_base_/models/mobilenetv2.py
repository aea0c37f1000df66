"""MobileNetV2 for ImageNet (Sandler et al., arXiv 1801.04381)."""
model = dict(
    type='ImageClassifier',
    backbone=dict(type='MobileNetV2', widen_factor=1.0),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=1000, in_channels=1280, loss=dict(type='CrossEntropyLoss'),
        topk=(1, 5)))
