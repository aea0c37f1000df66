"""Two snapshots of WRN-40-2 teach MobileNetV2 (width 0.75) on Tiny-ImageNet (CheckpointKD, Table 2).

    python tools/train.py configs/ckd/wrn40-2_mobilenetv2_tiny_imagenet_ensemble.py

is EN3, the Snapshot Ensemble: the half-way and the full teacher of one run, epochs 75 and 150. To take
them from a run of wrn40-2_mobilenetv2_tiny_imagenet.py add
``teacher.trajectory=work_dirs/wrn40-2_mobilenetv2_tiny_imagenet``. The others, each in a
``--work-dir`` of its own:

    EN1     --cfg-options selector.kind=full    the full teachers of two runs, with seeds 0 and 1
    EN2     --cfg-options selector.kind=mixed   the half-way teacher of the first, the full teacher of the
                                                second
    k = 4   --cfg-options selector.k=4          four teachers, of any kind

Printed, top-1 accuracy in percent, mean of five runs:

    networks        T_full 57.61, student alone 53.75
    KD              T_full 56.53, EN1 56.67, EN2 57.05, EN3 57.28

All other settings: ../_base_/ckd_tiny_imagenet.py. What is chosen here: wrn40-2_mobilenetv2_tiny_imagenet.py,
which is the column KD.
"""
_base_ = ['../_base_/models/mobilenetv2-0.75_tiny_imagenet.py', '../_base_/ckd_tiny_imagenet.py']

selector = dict(type='ensemble', kind='snapshot', k=2)
