"""The teacher of the small problem in cifar10_small.py.

ResNet-14 is trained for 24 epochs, with the drops of the learning rate where CheckpointKD's recipe has them
(30, 60 and 90 % of the epochs).
"""
teacher = dict(
    model=dict(
        type='ImageClassifier',
        backbone=dict(type='ckd_mm.CIFARResNet', depth=14),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=64, loss=dict(type='CrossEntropyLoss'))),
    train_cfg=dict(max_epochs=24, val_interval=3),
    param_scheduler=dict(type='MultiStepLR', by_epoch=True, milestones=[7, 14, 22], gamma=0.1, _delete_=True))
