"""CheckpointKD's experiments on Tiny-ImageNet (Table 2) without the student: WRN-40-2 teaches.

The recipe is that of CIFAR at the 150 epochs that the paper prints for Tiny-ImageNet. The epochs of the decay
are not printed: 45, 90 and 135 are the same parts of the run as 60, 120 and 180 of 200.
"""
_base_ = ['datasets/tiny_imagenet_bs128.py', 'distill.py', 'default_runtime.py']

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[45, 90, 135], gamma=0.1)
train_cfg = dict(by_epoch=True, max_epochs=150, val_interval=1)
val_cfg = dict()
test_cfg = dict()

teacher = dict(
    model=dict(cfg_path='{{fileDirname}}/models/wrn40-2_tiny_imagenet.py'), snapshots=dict(interval=15))
