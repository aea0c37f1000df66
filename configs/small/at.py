"""KD with attention transfer on the problem of kd.py, after each of the three stages, beta 1000.

    python tools/train.py configs/small/at.py --cfg-options teacher.trajectory=work_dirs/kd
"""
_base_ = [
    '../_base_/cifar10_small.py', '../_base_/cifar10_small_teacher.py',
    '../_base_/distillers/attention_transfer_cifar.py'
]

teacher = dict(snapshots=dict(phases=1))
selector = 'last'
distill = dict(ce_weight=0.1, kd_weight=0.9)
