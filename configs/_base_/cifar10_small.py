"""A small problem of real images for CPUs: 6,000 training and 4,000 test images of CIFAR-10 as a folder, see
../ckd/r34_r18_cifar10_jpeg.py.

A ResNet-8 of half the width has 6 epochs to learn in; its teacher: cifar10_small_teacher.py.
"""
_base_ = ['datasets/cifar10_jpeg_bs128.py', 'default_runtime.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(type='ckd_mm.CIFARResNet', depth=8, stem_channels=8, base_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=32, loss=dict(type='CrossEntropyLoss')))

# folders are listed class by class: the images are drawn from all of them
train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        _delete_=True, type='ckd_mm.split_dataset', part='held_out', held_out=6000, seed=0,
        dataset=dict(
            type='ckd_mm.InMemory',
            dataset=dict(
                type='CustomDataset', data_root='{{$CKD_DATA_ROOT:data}}/cifar10', data_prefix='train',
                pipeline={{_base_.train_pipeline}}))))
val_dataloader = dict(
    dataset=dict(
        _delete_=True, type='ckd_mm.split_dataset', part='held_out', held_out=4000, seed=0,
        dataset=dict(
            type='ckd_mm.InMemory',
            dataset=dict(
                type='CustomDataset', data_root='{{$CKD_DATA_ROOT:data}}/cifar10', data_prefix='test',
                pipeline={{_base_.test_pipeline}}))))
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4))
param_scheduler = dict(type='CosineAnnealingLR', T_max=6, by_epoch=True, convert_to_iter_based=True)
train_cfg = dict(by_epoch=True, max_epochs=6, val_interval=6)
val_cfg = dict()
test_cfg = dict()
