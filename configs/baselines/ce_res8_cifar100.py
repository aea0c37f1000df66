"""ResNet-8 on CIFAR-100 from labels alone (DIH, Tables 2, 3 and 4, the column CE).

    python tools/train.py configs/baselines/ce_res8_cifar100.py

Seeds: 3, 10, 21, each with a ``--work-dir`` of its own. For ResNet-14 (Table 4):
``--cfg-options model.backbone.depth=14``.

Printed, top-1 accuracy in percent:

    Tables 2 and 4, mean of three seeds   ResNet-8 59.77, ResNet-14 66.60
    Table 3, best of three                ResNet-8 60.06
"""
_base_ = '../_base_/dih_res8_cifar100.py'

teacher = None
