"""CIFAR-100 as mmpretrain reads (and, the first time, downloads) it, batch 128 on one GPU."""
data_preprocessor = dict(
    num_classes=100, mean=[129.304, 124.070, 112.434], std=[68.170, 65.392, 70.418], to_rgb=False)

train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=0,  # the images are in memory: worker processes would cost more than they bring
    persistent_workers=False,
    collate_fn=dict(type='ckd_mm.whole_batch'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ckd_mm.InMemory',
        dataset=dict(
            type='CIFAR100', data_root='{{$CKD_DATA_ROOT:data}}/cifar100', split='train',
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
            type='CIFAR100', data_root='{{$CKD_DATA_ROOT:data}}/cifar100', split='test',
            pipeline=[dict(type='PackInputs')])))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
auto_scale_lr = dict(base_batch_size=128)
