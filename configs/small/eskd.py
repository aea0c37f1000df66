"""Early-stopped distillation (ESKD) on the problem of kd.py: two thirds of the epochs with the teacher, then
labels alone.

    python tools/train.py configs/small/eskd.py --cfg-options teacher.trajectory=work_dirs/kd
"""
_base_ = ['../_base_/cifar10_small.py', '../_base_/cifar10_small_teacher.py', '../_base_/distill_small.py']

teacher = dict(snapshots=dict(phases=1))
selector = 'last'
distill = dict(stop_epoch=4)
