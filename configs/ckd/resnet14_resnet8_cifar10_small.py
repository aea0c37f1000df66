"""A small problem of real images for CPUs: which snapshot of a teacher teaches best,
and which selector finds it?

    python tools/sweep.py configs/ckd/resnet14_resnet8_cifar10_small.py \
        --work-dir work_dirs/cifar10_small --seeds 0 1 2
    python tools/compare_selectors.py configs/ckd/resnet14_resnet8_cifar10_small.py work_dirs/cifar10_small

Made for the comparison of selectors in docs/selectors.md; no paper prints it. CIFAR-10 as a folder of
images (see r34_r18_cifar10_jpeg.py), 6,000 training images of which 1,000 are held out from the teacher,
4,000 test images. ResNet-14 is trained for 24 epochs, with the drops of the learning rate where
CheckpointKD's recipe has them (30, 60 and 90 % of the epochs), and keeps every third; a ResNet-8 of half
the width has 6 epochs to learn in.
"""
_base_ = ['../_base_/cifar10_small.py', '../_base_/cifar10_small_teacher.py', '../_base_/distill_small.py']

teacher = dict(snapshots=dict(interval=3))
probe = dict(probe_split='held_out', held_out=1000)
selector = dict(type='information_plane')
