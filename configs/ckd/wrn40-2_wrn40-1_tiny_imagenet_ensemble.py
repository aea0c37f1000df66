"""Two snapshots of WRN-40-2 teach WRN-40-1 on Tiny-ImageNet (CheckpointKD, Table 2).

    python tools/train.py configs/ckd/wrn40-2_wrn40-1_tiny_imagenet_ensemble.py

is EN3, the Snapshot Ensemble: the half-way and the full teacher of one run, epochs 75 and 150. To
take them from a run of wrn40-2_wrn40-1_tiny_imagenet.py add
``teacher.trajectory=work_dirs/wrn40-2_wrn40-1_tiny_imagenet``. The others, each in a
``--work-dir`` of its own:

    EN1     --cfg-options selector.kind=full    the full teachers of two runs, with seeds 0 and 1
    EN2     --cfg-options selector.kind=mixed   the half-way teacher of the first, the full teacher of the
                                                second
    k = 4   --cfg-options selector.k=4          four teachers, of any kind

Printed, top-1 accuracy in percent, mean of five runs:

    networks        T_full 57.61, student alone 53.85
    KD              T_full 55.65, EN1 55.96, EN2 56.27, EN3 56.37
    the ensembles   EN1 62.81, EN2 61.53, EN3 60.33

All other settings: ../_base_/ckd_tiny_imagenet.py. What is chosen here: wrn40-2_wrn40-1_tiny_imagenet.py,
which is the column KD.
"""
_base_ = ['../_base_/models/wrn40-1_tiny_imagenet.py', '../_base_/ckd_tiny_imagenet.py']

selector = dict(type='ensemble', kind='snapshot', k=2)
