"""ResNet-34 and its four heads teach ResNet-8 on CIFAR-100 (DIH, Tables 2 and 3).

    python tools/train.py configs/dih/res34_res8_cifar100.py --cfg-options randomness.seed=3

Printed, top-1 accuracy in percent:

    Table 2, mean of three seeds   CE 59.77, KD 59.35, DIH 62.42
    Table 3, best of three         CE 60.06, KD 59.51, DIH 62.54

Columns: res110_res8_cifar100.py. All other settings: ../_base_/dih_res8_cifar100.py,
../_base_/distill_dih.py.
"""
_base_ = ['../_base_/dih_res8_cifar100.py', '../_base_/distill_dih.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet34_cifar100.py'))
heads = dict(out_indices=(0, 1, 2, 3), kind='flatten')
