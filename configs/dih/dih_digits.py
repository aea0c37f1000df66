"""DIH in a minute on two CPU cores: scikit-learn's handwritten digits, 8x8 pixels.

    python tools/train.py configs/dih/dih_digits.py

The teacher of ../ckd/demo_digits.py, a ResNet of three stages, gets a head on each of them, trained for 10
epochs while it is frozen; heads and teacher teach the small network of two stages in its 8 epochs. The page
shows how good each of the four is.
"""
_base_ = [
    '../_base_/models/resnet_digits_small.py', '../_base_/datasets/digits_bs32.py',
    '../_base_/schedules/digits_8e.py', '../_base_/distill_dih.py', '../_base_/default_runtime.py'
]

default_hooks = dict(logger=dict(interval=20))

teacher = dict(
    model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet_digits.py'),
    train_cfg=dict(max_epochs=30),
    param_scheduler=dict(type='CosineAnnealingLR', T_max=30, by_epoch=True, convert_to_iter_based=True))
heads = dict(
    # a tenth of the teacher's learning rate: on flattened maps 0.1 makes logits that 10 epochs of weight
    # decay cannot tame
    out_indices=(0, 1, 2), kind='flatten', train_cfg=dict(max_epochs=10),
    optim_wrapper=dict(optimizer=dict(lr=0.01)),
    param_scheduler=dict(type='CosineAnnealingLR', T_max=10, by_epoch=True, convert_to_iter_based=True))
student_alone = True
