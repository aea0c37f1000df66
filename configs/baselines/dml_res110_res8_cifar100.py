"""ResNet-8 and ResNet-110 learn together on CIFAR-100 (deep mutual learning, arXiv 1706.00384; DIH, Table 3).

    python tools/train.py configs/baselines/dml_res110_res8_cifar100.py

Seeds: 3, 10, 21, each with a ``--work-dir`` of its own. Both are validated, and both are left:
``student.pth`` and ``peer.pth``.

Printed, top-1 accuracy of ResNet-8 in percent, best of three seeds:

    Table 3   CE 60.06, DML 59.67

The weights are DIH's for "any other KD extensions" (alpha = 0.1); tau = 1 is that of DML and of the command
in the code of DIH's authors. DML itself weighs both terms by 1:
``--cfg-options distill.ce_weight=1.0 distill.kd_weight=1.0``.
"""
_base_ = '../_base_/dih_res8_cifar100.py'

peer = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/dih_resnet110_cifar100.py'))
distill = dict(tau=1.0, ce_weight=0.9, kd_weight=0.1)
