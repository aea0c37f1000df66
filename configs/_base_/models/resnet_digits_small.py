"""A narrower and shallower ResNet for 8x8 images, 4 and 8 channels."""
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet_CIFAR', depth=18, num_stages=2, strides=(1, 2), dilations=(1, 1),
        out_indices=(1, ), stem_channels=4, base_channels=4, style='pytorch'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=8, loss=dict(type='CrossEntropyLoss')))
