"""ResNet-50 teaches MobileNetV2 on ImageNet (CheckpointKD, Table 1).

    tools/dist_train.sh configs/ckd/r50_mobilenetv2_imagenet.py 8

distils from the half-way teacher, epoch 60 of 120. The column T_full uses the same teacher:

    tools/dist_train.sh configs/ckd/r50_mobilenetv2_imagenet.py 8 --work-dir work_dirs/T_full \
        --cfg-options teacher.trajectory=work_dirs/r50_mobilenetv2_imagenet selector=last

Printed, top-1 accuracy in percent:

    networks   T_full 76.93, T_half 69.14, student alone 64.18
    KD         T_full 66.64, T_half 66.79, best 66.92

The teacher's 120 epochs are printed. Not printed and chosen here: the student's 120 on the same schedule, tau
and the weights.
"""
_base_ = ['../_base_/models/mobilenetv2.py', '../_base_/ckd_imagenet.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet50.py'))
selector = dict(type='half_way')
