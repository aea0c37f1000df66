"""ResNet-20 teaches an assistant, ResNet-14, and that ResNet-8, on CIFAR-100 (TAKD, arXiv 1902.03393;
DIH, Table 3).

    python tools/train.py configs/baselines/takd_res20_res8_cifar100.py

Seeds: 3, 10, 21, each with a ``--work-dir`` of its own.

Printed, top-1 accuracy in percent, best of three seeds:

    Table 3   CE 60.06, TAKD 60.33

The assistant is printed; it is trained like the student. All other settings: ../_base_/dih_res8_cifar100.py,
../_base_/distill_dih.py.
"""
_base_ = ['../_base_/dih_res8_cifar100.py', '../_base_/distill_dih.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/dih_resnet20_cifar100.py'))
assistants = [dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/dih_resnet14_cifar100.py'))]
