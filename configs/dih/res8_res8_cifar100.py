"""ResNet-8 and its three heads teach ResNet-8 on CIFAR-100 (DIH, Table 4).

    python tools/train.py configs/dih/res8_res8_cifar100.py --cfg-options randomness.seed=3

Printed, top-1 accuracy in percent, mean of three seeds:

    Table 4   CE 59.77, KD 59.44, DIH 61.57

The teacher, of the student's own network, has a seed of its own. Columns and all other settings: res110_res8_cifar100.py.
"""
_base_ = 'res110_res8_cifar100.py'

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/dih_resnet8_cifar100.py'))
