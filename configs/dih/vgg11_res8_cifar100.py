"""VGG-11 and its four heads teach ResNet-8 on CIFAR-100 (DIH, Table 2).

    python tools/train.py configs/dih/vgg11_res8_cifar100.py --cfg-options randomness.seed=3

The paper mounts k = 4 heads "after each max-pooling layer", of which there are five. Chosen here: the first
four; behind the fifth, one pixel is left, which the teacher itself reads.

Printed, top-1 accuracy in percent, mean of three seeds:

    Table 2   CE 59.77, KD 59.49, DIH 62.01

Columns: res110_res8_cifar100.py. All other settings: ../_base_/dih_res8_cifar100.py,
../_base_/distill_dih.py.
"""
_base_ = ['../_base_/dih_res8_cifar100.py', '../_base_/distill_dih.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/vgg11_cifar100.py'))
heads = dict(out_indices=(0, 1, 2, 3), kind='flatten')
