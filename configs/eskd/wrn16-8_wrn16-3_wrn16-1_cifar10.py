"""WRN-16-8 teaches WRN-16-3, and that WRN-16-1, on CIFAR-10: step-wise KD (ESKD, Table 6).

    python tools/train.py configs/eskd/wrn16-8_wrn16-3_wrn16-1_cifar10.py

Printed, errors in percent, of the smallest mean and spread of five runs:

    large to medium to small   large 4.41, medium 4.80, small 7.99 ± 0.24
    medium to small            medium 5.34, small 7.68 ± 0.26
    large to small             large 4.41, small 8.03 ± 0.14

The other rows: wrn16-3_wrn16-1_cifar10.py, with WRN-16-3 and with WRN-16-8; what is chosen here: there. All
settings: ../_base_/eskd_cifar10.py, ../_base_/distill_eskd.py.
"""
_base_ = ['../_base_/models/wrn16-1_cifar10.py', '../_base_/eskd_cifar10.py', '../_base_/distill_eskd.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/wrn16-8_cifar10.py'))
assistants = [dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/wrn16-3_cifar10.py'))]
