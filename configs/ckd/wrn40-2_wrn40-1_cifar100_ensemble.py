"""Two snapshots of WRN-40-2 teach WRN-40-1 on CIFAR-100 (CheckpointKD, Table 2).

    python tools/train.py configs/ckd/wrn40-2_wrn40-1_cifar100_ensemble.py

is EN3, the Snapshot Ensemble: the half-way and the full teacher of one run, epochs 100 and 200. To take them
from a run of wrn40-2_wrn40-1_cifar100.py add ``teacher.trajectory=work_dirs/wrn40-2_wrn40-1_cifar100``. The
others, each in a ``--work-dir`` of its own:

    EN1     --cfg-options selector.kind=full    the full teachers of two runs, with seeds 0 and 1
    EN2     --cfg-options selector.kind=mixed   the half-way teacher of the first, the full teacher of the
                                                second
    k = 4   --cfg-options selector.k=4          four teachers, of any kind; Figure 3 has k = 1, 2, 4, 7 and 10

Printed, top-1 accuracy in percent, mean and spread of five runs:

    KD              T_full 72.68 ± 0.10, EN1 73.05 ± 0.16, EN2 73.80 ± 0.31, EN3 73.70 ± 0.04
    the ensembles   EN1 79.44, EN2 76.90, EN3 76.29

All other settings: ../_base_/ckd_cifar100.py. What is chosen here: wrn40-2_wrn40-1_cifar100.py, which is
the column KD.
"""
_base_ = ['../_base_/models/wrn40-1_cifar100.py', '../_base_/ckd_cifar100.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/wrn40-2_cifar100.py'))
selector = dict(type='ensemble', kind='snapshot', k=2)
