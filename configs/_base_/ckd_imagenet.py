"""CheckpointKD's experiments on ImageNet (Table 1) without the networks.

The recipe is "standard PyTorch practice" for 120 epochs; batch 256, x0.1 every 30 epochs. A teacher keeps a
snapshot every 10 epochs.
"""
_base_ = ['datasets/imagenet_bs32.py', 'distill.py', 'default_runtime.py']

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[30, 60, 90], gamma=0.1)
train_cfg = dict(by_epoch=True, max_epochs=120, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# an epoch takes long: a killed run loses at most 1,000 iterations of it
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1000))
teacher = dict(snapshots=dict(interval=10))
