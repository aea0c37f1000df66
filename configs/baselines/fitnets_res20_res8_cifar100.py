"""FitNets from ResNet-20 to ResNet-8 on CIFAR-100 (Romero et al., arXiv 1412.6550; DIH, Table 3).

    python tools/train.py configs/baselines/fitnets_res20_res8_cifar100.py

trains the teacher; then for 40 epochs the student up to its second stage, which a regressor compares
with the teacher's; then the whole student for 200 epochs by KD. Seeds: 3, 10, 21, each with a
``--work-dir`` of its own.

Printed, top-1 accuracy in percent, best of three seeds:

    Table 3   CE 60.06, FitNets 60.25

The 40 and 200 epochs are printed. Which stages, which regressor and which scale of the loss:
../_base_/distillers/fitnets_hint_cifar.py. All other settings: ../_base_/dih_res8_cifar100.py,
../_base_/distill_dih.py.
"""
_base_ = [
    '../_base_/dih_res8_cifar100.py', '../_base_/distill_dih.py', '../_base_/distillers/fitnets_hint_cifar.py'
]

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/dih_resnet20_cifar100.py'))
hint = dict(param_scheduler=None)  # the first milestone of the student comes after its 40 epochs
