"""KD with attention transfer from ResNet-110 to ResNet-8 on CIFAR-100 (Zagoruyko and Komodakis, arXiv
1612.03928).

    python tools/train.py configs/baselines/at_res110_res8_cifar100.py

Seeds: 3, 10, 21, each with a ``--work-dir`` of its own. ESKD has it on CIFAR-10 and ImageNet (../eskd/); no
paper prints this pair. After each of the three stages the student's attention map is compared with the
teacher's, beta = 1000; attention alone, beside the labels, is
``--cfg-options distill.kd_weight=0.0 distill.ce_weight=1.0``. tau and the weights: ../_base_/distill_dih.py;
all other settings: ../_base_/dih_res8_cifar100.py.
"""
_base_ = ['../_base_/dih_res8_cifar100.py', '../_base_/distillers/attention_transfer_cifar.py']

teacher = dict(
    model=dict(cfg_path='{{fileDirname}}/../_base_/models/dih_resnet110_cifar100.py'),
    snapshots=dict(phases=1))
selector = 'last'
distill = dict(tau=5.0)
