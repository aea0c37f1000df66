"""r34_r18_cifar10.py on CIFAR-10 as a folder of images, ``data/cifar10/{train,test}/<class>/*.jpg``.

    python tools/train.py configs/ckd/r34_r18_cifar10_jpeg.py

The environment variable CKD_DATA_ROOT names another folder than ``data``. JPEG pixels differ a little from
the original's.
"""
_base_ = [
    '../_base_/models/resnet18_cifar10.py', '../_base_/datasets/cifar10_jpeg_bs128.py',
    '../_base_/schedules/cifar_200e.py', '../_base_/distill.py', '../_base_/default_runtime.py'
]

teacher = dict(
    model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet34_cifar10.py'),
    snapshots=dict(interval=20))
probe = dict(probe_split='held_out', held_out=5000, num_images=5000)
selector = dict(type='information_plane')
