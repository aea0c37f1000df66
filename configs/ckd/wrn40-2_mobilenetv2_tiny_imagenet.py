"""WRN-40-2 teaches MobileNetV2 (width 0.75) on Tiny-ImageNet (CheckpointKD, Table 2, the column KD).

    python tools/train.py configs/ckd/wrn40-2_mobilenetv2_tiny_imagenet.py

reads ``data/tiny-imagenet-200``, the archive as it unpacks, and distils from the full teacher. The half-way
one, epoch 75, is ``--cfg-options selector=half_way``.

Printed, top-1 accuracy in percent, mean of five runs:

    networks   T_full 57.61, student alone 53.75
    KD         T_full 56.53

150 epochs are printed for the teacher. Not printed and chosen here: the student's 150 on the same schedule,
the epochs at which the learning rate falls, batch size and optimiser (those of CIFAR), the augmentation, tau
and the weights.
"""
_base_ = ['../_base_/models/mobilenetv2-0.75_tiny_imagenet.py', '../_base_/ckd_tiny_imagenet.py']

selector = dict(type='last')
