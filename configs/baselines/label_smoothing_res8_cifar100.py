"""ResNet-8 on CIFAR-100 from smoothed labels (Szegedy et al., arXiv 1512.00567, Sec. 7).

    python tools/train.py configs/baselines/label_smoothing_res8_cifar100.py

Seeds: 3, 10, 21, each with a ``--work-dir`` of its own. A tenth of each label is spread over all classes, as
usual; no paper prints this network. It is distillation from an uninformed teacher (CheckpointKD, Sec. 4.3).
All other settings: ../_base_/dih_res8_cifar100.py.
"""
_base_ = '../_base_/dih_res8_cifar100.py'

model = dict(head=dict(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
teacher = None
