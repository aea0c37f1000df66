"""ResNet-110 teaches ResNet-8 on CIFAR-100 by KD (Hinton et al., arXiv 1503.02531; DIH,
Tables 2 and 3).

    python tools/train.py configs/baselines/kd_res110_res8_cifar100.py

Seeds: 3, 10, 21, each with a ``--work-dir`` of its own.

Printed, top-1 accuracy in percent:

    Table 2, mean of three seeds   CE 59.77, KD 59.77
    Table 3, best of three         CE 60.06, KD 60.35

The other pairs of DIH: their configs with ``--cfg-options heads=None``. All settings:
../_base_/dih_res8_cifar100.py, ../_base_/distill_dih.py.
"""
_base_ = ['../_base_/dih_res8_cifar100.py', '../_base_/distill_dih.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/dih_resnet110_cifar100.py'))
