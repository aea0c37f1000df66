"""Sequential KD on the problem of kd.py: three generations of the student, and their ensemble.

    python tools/train.py configs/small/generations.py --cfg-options teacher.trajectory=work_dirs/kd

Beside them an ensemble of three students without a teacher (ESKD, Table 4).
"""
_base_ = ['../_base_/cifar10_small.py', '../_base_/cifar10_small_teacher.py', '../_base_/distill_small.py']

teacher = dict(snapshots=dict(phases=1))
selector = 'last'
generations = 3
student_alone = 3
