"""ResNet-34 teaches ResNet-18 on ImageNet (CheckpointKD, Table 1 and Algorithm 1).

    tools/dist_train.sh configs/ckd/r34_r18_imagenet.py 8

distils from T*. The columns T_full and T_half: ``--cfg-options probe=None selector=last`` or
``selector=half_way``; the Snapshot Ensemble of size 2 (Sec. 3.4):
``probe=None selector.type=ensemble selector.kind=snapshot selector.k=2``.

Printed, top-1 accuracy in percent:

    networks   T_full 73.86, T_half 66.08, student alone 69.75
    KD         T_full 70.66, T_half 70.86, best 70.98

Teacher: 120 epochs, as printed. Not printed and chosen here: the student's 120 epochs on the same schedule,
tau and the weights, the probe's size. The teacher is trained without the 10,000 images of the probe;
``probe.probe_split=test`` follows the paper and trains it on all.
"""
_base_ = ['../_base_/models/resnet18.py', '../_base_/ckd_imagenet.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet34.py'))
probe = dict(probe_split='held_out', held_out=10000, num_images=2000, reconstruct_size=56)
selector = dict(type='information_plane')
