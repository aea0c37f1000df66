"""r34_r18_cifar10.py on CIFAR-10 as a folder of images, ``data/cifar10/{train,test}/<class>/*.jpg``.

    python tools/train.py configs/ckd/r34_r18_cifar10_jpeg.py

The environment variable CKD_DATA_ROOT names another folder than ``data``. JPEG pixels differ a little from the original's.
"""
_base_ = ['./r34_r18_cifar10.py', '../_base_/datasets/cifar10_jpeg_bs128.py']
