"""VGG-11 with BatchNorm for CIFAR-10 (Simonyan and Zisserman, arXiv 1409.1556) as DIH has it: one linear
layer behind 5 max-pools.

The stages 0 to 4 end in a max-pool each. DIH mounts k = 4 heads and does not say behind which four: here
behind the stages 0 to 3, since the fifth leaves one pixel.
"""
model = dict(
    type='ImageClassifier',
    backbone=dict(type='VGG', depth=11, norm_cfg=dict(type='BN')),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=512, loss=dict(type='CrossEntropyLoss')))
