"""WRN-16-2 in five generations of KD on CIFAR-10 (ESKD, Table 4).

    python tools/train.py configs/eskd/wrn16-2_generations_cifar10.py

The first network learns from labels, five more learn each from the one before, with seeds of their own. The
run reports every generation, the ensemble of the five, with and without the first, and the ensemble of five
networks from scratch. "First generation" is taken as the network that learned from labels: "5 generations of
knowledge distillation were done".

Printed, errors in percent:

    WRN-16-2, KD   last generation 6.101, all generations 5.181, scratch 6.428, scratch ensemble 4.865

All other settings: ../_base_/eskd_cifar10.py, ../_base_/distill_eskd.py. What is chosen here:
wrn16-3_wrn16-1_cifar10.py.
"""
_base_ = ['../_base_/models/wrn16-2_cifar10.py', '../_base_/eskd_cifar10.py', '../_base_/distill_eskd.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/wrn16-2_cifar10.py'))
generations = 5
student_alone = 5
