"""ResNet-20 and its three heads teach ResNet-8 on CIFAR-100 (DIH, Table 3).

    python tools/train.py configs/dih/res20_res8_cifar100.py --cfg-options randomness.seed=3

Printed, top-1 accuracy in percent, best of three seeds:

    Table 3   CE 60.06, KD 60.18, DIH 62.70

Columns: res110_res8_cifar100.py. All other settings: ../_base_/dih_res8_cifar100.py,
../_base_/distill_dih.py.
"""
_base_ = ['../_base_/dih_res8_cifar100.py', '../_base_/distill_dih.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/dih_resnet20_cifar100.py'))
heads = dict(out_indices=(0, 1, 2), kind='flatten')
