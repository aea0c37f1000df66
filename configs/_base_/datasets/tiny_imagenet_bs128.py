"""Tiny-ImageNet, ``tiny-imagenet-200/{train,val}`` as its archive unpacks, batch 128 on one GPU; the 10,000
validation images test.

No paper prints the augmentation: a crop out of 4 pixels of padding and a flip, as on CIFAR, is what many
repositories of distillation do. Means and standard deviations are those of the training pixels.
"""
data_preprocessor = dict(
    num_classes=200, mean=[122.45, 114.27, 101.36], std=[70.64, 68.62, 71.94], to_rgb=True)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=64, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=128,
    num_workers=0,  # the images are in memory: worker processes would cost more than they bring
    persistent_workers=False,
    collate_fn=dict(type='ckd_mm.whole_batch'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ckd_mm.InMemory',
        dataset=dict(
            type='ckd_mm.TinyImageNet', data_root='{{$CKD_DATA_ROOT:data}}/tiny-imagenet-200', split='train',
            pipeline=train_pipeline)))
val_dataloader = dict(
    batch_size=256,
    num_workers=0,
    persistent_workers=False,
    collate_fn=dict(type='ckd_mm.whole_batch'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ckd_mm.InMemory',
        dataset=dict(
            type='ckd_mm.TinyImageNet', data_root='{{$CKD_DATA_ROOT:data}}/tiny-imagenet-200', split='val',
            pipeline=test_pipeline)))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=128)
