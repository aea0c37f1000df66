"""WRN-28-3 teaches WRN-28-1 on CIFAR-10 (ESKD, Figure 2, Table 2).

    python tools/train.py configs/eskd/wrn28-3_wrn28-1_cifar10.py

Other teachers: ``--cfg-options teacher.model.cfg_path=configs/_base_/models/wrn28-8_cifar10.py``,
or 28-4, 28-6.

Printed, KD error in percent on training and test images (Table 2):

    WRN-28-3   train 0.23, test 4.05
    WRN-28-4   train 0.25, test 4.53
    WRN-28-6   train 0.23, test 4.54
    WRN-28-8   train 0.31, test 4.81

All other settings: ../_base_/eskd_cifar10.py, ../_base_/distill_eskd.py. What is chosen here:
wrn16-3_wrn16-1_cifar10.py.
"""
_base_ = ['../_base_/models/wrn28-1_cifar10.py', '../_base_/eskd_cifar10.py', '../_base_/distill_eskd.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/wrn28-3_cifar10.py'))
