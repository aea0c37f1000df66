"""KD on a small problem of real images, for CPUs: ResNet-14 teaches a narrow ResNet-8 on 6,000 images of CIFAR-10.

    python tools/train.py configs/small/kd.py

A minute or two on two cores, after ten for the teacher; the other methods of this folder take it with
``teacher.trajectory=work_dirs/kd``. No paper prints these numbers: docs/methods.md has them, of three seeds each.
"""
_base_ = '../_base_/cifar10_small.py'

teacher = dict(snapshots=dict(_delete_=True, phases=1))
selector = 'last'
distill = dict(tau=4.0, aggregation='prob', ce_weight=0.1, kd_weight=0.9)
student_alone = True
