"""Two snapshots of WRN-40-2 teach MobileNetV2 (width 0.75) on CIFAR-100 (CheckpointKD, Table 2).

    python tools/train.py configs/ckd/wrn40-2_mobilenetv2_cifar100_ensemble.py

is EN3, the Snapshot Ensemble: the half-way and the full teacher of one run, epochs 100 and 200.
To take them from a run of wrn40-2_mobilenetv2_cifar100.py add
``teacher.trajectory=work_dirs/wrn40-2_mobilenetv2_cifar100``. The others, each in a
``--work-dir`` of its own:

    EN1     --cfg-options selector.kind=full    the full teachers of two runs, with seeds 0 and 1
    EN2     --cfg-options selector.kind=mixed   the half-way teacher of the first, the full teacher of the
                                                second
    k = 4   --cfg-options selector.k=4          four teachers, of any kind

Printed, top-1 accuracy in percent, mean and spread of five runs:

    KD              T_full 68.03 ± 0.34, EN1 68.69 ± 0.32, EN2 69.14 ± 0.27, EN3 69.20 ± 0.31

All other settings: ../_base_/ckd_cifar100.py. What is chosen here: wrn40-2_mobilenetv2_cifar100.py, which is
the column KD.
"""
_base_ = ['../_base_/models/mobilenetv2-0.75_cifar100.py', '../_base_/ckd_cifar100.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/wrn40-2_cifar100.py'))
selector = dict(type='ensemble', kind='snapshot', k=2)
