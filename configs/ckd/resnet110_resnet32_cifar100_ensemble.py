"""Two snapshots of ResNet-110 teach ResNet-32 on CIFAR-100 (CheckpointKD, Table 2).

    python tools/train.py configs/ckd/resnet110_resnet32_cifar100_ensemble.py

is EN3, the Snapshot Ensemble: the half-way and the full teacher of one run, epochs 100 and 200. To take them
from a run of resnet110_resnet32_cifar100.py add ``teacher.trajectory=work_dirs/resnet110_resnet32_cifar100``.
The others, each in a ``--work-dir`` of its own:

    EN1     --cfg-options selector.kind=full    the full teachers of two runs, with seeds 0 and 1
    EN2     --cfg-options selector.kind=mixed   the half-way teacher of the first, the full teacher of the
                                                second
    k = 4   --cfg-options selector.k=4          four teachers, of any kind

Printed, top-1 accuracy in percent, mean and spread of five runs:

    KD              T_full 72.48 ± 0.22, EN1 72.88 ± 0.14, EN2 72.91 ± 0.17, EN3 73.03 ± 0.24
    the ensembles   EN1 76.92, EN2 74.28, EN3 73.23

All other settings: ../_base_/ckd_cifar100.py. What is chosen here: resnet110_resnet32_cifar100.py, which is
the column KD.
"""
_base_ = ['../_base_/models/resnet32_cifar100.py', '../_base_/ckd_cifar100.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet110_cifar100.py'))
selector = dict(type='ensemble', kind='snapshot', k=2)
