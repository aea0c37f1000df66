"""Two snapshots of ResNet-110 teach MobileNetV2 (width 0.75) on CIFAR-100 (CheckpointKD, Table 2).

    python tools/train.py configs/ckd/resnet110_mobilenetv2_cifar100_ensemble.py

is EN3, the Snapshot Ensemble: the half-way and the full teacher of one run, epochs 100 and 200. To
take them from a run of resnet110_mobilenetv2_cifar100.py add
``teacher.trajectory=work_dirs/resnet110_mobilenetv2_cifar100``. The others, each in a
``--work-dir`` of its own:

    EN1     --cfg-options selector.kind=full    the full teachers of two runs, with seeds 0 and 1
    EN2     --cfg-options selector.kind=mixed   the half-way teacher of the first, the full teacher of the
                                                second
    k = 4   --cfg-options selector.k=4          four teachers, of any kind

Printed, top-1 accuracy in percent, mean and spread of five runs:

    KD              T_full 68.63 ± 0.35, EN1 69.69 ± 0.25, EN2 70.46 ± 0.34, EN3 70.19 ± 0.25

All other settings: ../_base_/ckd_cifar100.py. What is chosen here: resnet110_mobilenetv2_cifar100.py, which
is the column KD.
"""
_base_ = ['../_base_/models/mobilenetv2-0.75_cifar100.py', '../_base_/ckd_cifar100.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet110_cifar100.py'))
selector = dict(type='ensemble', kind='snapshot', k=2)
