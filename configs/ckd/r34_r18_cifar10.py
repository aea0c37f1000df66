"""ResNet-34 teaches ResNet-18 on CIFAR-10, with CheckpointKD's CIFAR recipe (one GPU, batch 128, 200 epochs).

    python tools/train.py configs/ckd/r34_r18_cifar10.py

No paper prints this pair: it needs nothing but mmpretrain's networks and data. tau and the
weights are ESKD's.
"""
_base_ = [
    '../_base_/models/resnet18_cifar10.py', '../_base_/datasets/cifar10_bs128.py',
    '../_base_/schedules/cifar_200e.py', '../_base_/distill.py', '../_base_/default_runtime.py'
]

teacher = dict(
    model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet34_cifar10.py'),
    snapshots=dict(interval=20))
probe = dict(probe_split='held_out', held_out=5000, num_images=5000)
selector = dict(type='information_plane')
