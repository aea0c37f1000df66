"""Born-again ResNet-8 on CIFAR-100: three generations, each taught by the one before (Furlanello et al.,
arXiv 1805.04770).

    python tools/train.py configs/baselines/born_again_res8_cifar100.py

trains the first network from labels and three after it, and reports each, and the ensembles of all, beside
three networks from scratch. Other numbers of generations: ``--cfg-options generations=5 student_alone=5``.

No paper prints this network (ESKD, Table 4, has others: ../eskd/). As its authors have it, predictions are
not softened (tau = 1) and labels and teacher weigh the same; the sum of the weights, 1, is chosen here. All
other settings: ../_base_/dih_res8_cifar100.py.
"""
_base_ = ['../_base_/dih_res8_cifar100.py', '../_base_/distill_dih.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/dih_resnet8_cifar100.py'))
generations = 3
student_alone = 3
distill = dict(tau=1.0, ce_weight=0.5, kd_weight=0.5)
