"""KD on a small problem of real images, for CPUs: ResNet-14 teaches a narrow ResNet-8 on 6,000 images
of CIFAR-10.

    python tools/train.py configs/small/kd.py

A minute or two on two cores, after ten for the teacher; the other methods of this folder take it
with ``teacher.trajectory=work_dirs/kd``. No paper prints these numbers: docs/methods.md has them, of
three seeds each.
"""
_base_ = ['../_base_/cifar10_small.py', '../_base_/cifar10_small_teacher.py', '../_base_/distill_small.py']

teacher = dict(snapshots=dict(phases=1))
selector = 'last'
student_alone = True
