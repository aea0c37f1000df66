"""Decoupled KD from ResNet-110 to ResNet-8 on CIFAR-100 (DKD, CVPR 2022, arXiv 2203.08679).

    python tools/train.py configs/baselines/dkd_res110_res8_cifar100.py

Seeds: 3, 10, 21, each with a ``--work-dir`` of its own. No paper prints this pair. The loss is that of DKD's
authors, with their tau, weights and warm-up (../_base_/distillers/decoupled_kd.py); the recipe and all else
is that of ../_base_/dih_res8_cifar100.py.
"""
_base_ = ['../_base_/dih_res8_cifar100.py', '../_base_/distillers/decoupled_kd.py']

teacher = dict(
    model=dict(cfg_path='{{fileDirname}}/../_base_/models/dih_resnet110_cifar100.py'),
    snapshots=dict(phases=1))
selector = 'last'
