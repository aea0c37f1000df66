"""TAKD on the problem of kd.py: a ResNet-8 of full width stands between teacher and student.

    python tools/train.py configs/small/takd.py --cfg-options teacher.trajectory=work_dirs/kd
"""
_base_ = ['../_base_/cifar10_small.py', '../_base_/cifar10_small_teacher.py', '../_base_/distill_small.py']

teacher = dict(snapshots=dict(phases=1))
selector = 'last'
assistants = [dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet8_cifar10.py'))]
