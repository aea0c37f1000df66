"""The whole method in a few minutes on two CPU cores: scikit-learn's handwritten digits, 8x8 pixels.

    make demo

A ResNet with 8 to 32 channels is trained for 30 epochs and keeps every third; the information plane is probed
on training images that it has not seen; T* teaches a network of two stages, 4 and 8 channels, which has only
8 epochs to learn in.
"""
_base_ = [
    '../_base_/models/resnet_digits_small.py', '../_base_/datasets/digits_bs32.py',
    '../_base_/schedules/digits_8e.py', '../_base_/default_runtime.py'
]

default_hooks = dict(logger=dict(interval=20))

teacher = dict(
    model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet_digits.py'),
    train_cfg=dict(max_epochs=30),
    param_scheduler=dict(type='CosineAnnealingLR', T_max=30, by_epoch=True, convert_to_iter_based=True),
    snapshots=dict(interval=3))
probe = dict(probe_split='held_out', held_out=0.2, decoder_epochs=60, decoder_batch=32)
selector = dict(type='information_plane')
distill = dict(tau=4.0, aggregation='prob', ce_weight=0.1, kd_weight=0.9)
student_alone = True
