"""Decoupled KD on the problem of kd.py; its weight rises over the first of 6 epochs.

    python tools/train.py configs/small/dkd.py --cfg-options teacher.trajectory=work_dirs/kd
"""
_base_ = [
    '../_base_/cifar10_small.py', '../_base_/cifar10_small_teacher.py', '../_base_/distillers/decoupled_kd.py'
]

teacher = dict(snapshots=dict(phases=1))
selector = 'last'
distill = dict(loss=dict(non_target_weight=2.0), schedule=dict(end=1))
