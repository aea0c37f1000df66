"""ResNet-152 teaches ResNet-18, and that another ResNet-18, on ImageNet: sequential ESKD (ESKD,
Tables 7 and 8).

    tools/dist_train.sh configs/eskd/r152_r18_r18_imagenet.py 8

    medium to small to small  --cfg-options teacher.model.cfg_path=configs/_base_/models/resnet50.py
    small to small to small   teacher.model.cfg_path=configs/_base_/models/resnet18.py

Printed, top-1 error in percent of the first teacher, of the second, and of the student:

    Table 7   large to small to small 21.69, 29.45, 29.41; medium 23.85, 29.35, 29.35;
              small 30.24, 29.01, 29.15

These are two generations of the student, each of which stops distilling early. All other settings:
../_base_/eskd_imagenet.py, ../_base_/distill_eskd.py. What is chosen here: r34_r18_imagenet_eskd.py.
"""
_base_ = ['../_base_/eskd_imagenet.py', '../_base_/distill_eskd.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet152.py'))
generations = 2
distill = dict(stop_epoch=60)
