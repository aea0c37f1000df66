"""KD of standardised logits from ResNet-110 to ResNet-8 on CIFAR-100 (logit standardisation, CVPR 2024, arXiv
2403.01427).

    python tools/train.py configs/baselines/logit_standardization_res110_res8_cifar100.py

Seeds: 3, 10, 21, each with a ``--work-dir`` of its own. No paper prints this pair. tau = 2 and the weights
are those of the method's authors for KD; that the weight rises over 20 epochs is chosen here, see
../small/logit_standardization.py. The recipe and all else is that of ../_base_/dih_res8_cifar100.py.
"""
_base_ = ['../_base_/dih_res8_cifar100.py', '../_base_/distill_dih.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/dih_resnet110_cifar100.py'))
distill = dict(
    tau=2.0, ce_weight=0.1, kd_weight=9.0, standardize=True,
    schedule=dict(type='ckd_mm.AnnealDistillationHook', begin=0, end=20, start_value=0.0, end_value=9.0))
