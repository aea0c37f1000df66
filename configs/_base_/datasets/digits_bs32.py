"""scikit-learn's 1,797 handwritten digits of 8x8 pixels; nothing to download."""
data_preprocessor = dict(num_classes=10, mean=[77.9] * 3, std=[95.9] * 3, to_rgb=False)

train_dataloader = dict(
    batch_size=32,
    num_workers=0,  # an image is ready in microseconds: worker processes would cost more than they bring
    persistent_workers=False,
    pin_memory=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ckd_mm.Digits', split='train',
        pipeline=[dict(type='RandomCrop', crop_size=8, padding=1), dict(type='PackInputs')]))
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ckd_mm.Digits', split='test', pipeline=[dict(type='PackInputs')]))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
