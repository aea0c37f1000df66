"""ResNet-8 and its three heads teach ResNet-8 on CIFAR-100 (DIH, Table 4).

    python tools/train.py configs/dih/res8_res8_cifar100.py --cfg-options randomness.seed=3

Printed, top-1 accuracy in percent, mean of three seeds:

    Table 4   CE 59.77, KD 59.44, DIH 61.57

The teacher, of the student's own network, has a seed of its own. Columns: res110_res8_cifar100.py. All other
settings: ../_base_/dih_res8_cifar100.py, ../_base_/distill_dih.py.
"""
_base_ = ['../_base_/dih_res8_cifar100.py', '../_base_/distill_dih.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/dih_resnet8_cifar100.py'))
heads = dict(out_indices=(0, 1, 2), kind='flatten')
