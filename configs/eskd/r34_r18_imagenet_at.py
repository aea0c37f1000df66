"""ResNet-34 teaches ResNet-18 on ImageNet by ESKD with attention transfer (ESKD, Table 8).

    tools/dist_train.sh configs/eskd/r34_r18_imagenet_at.py 8

    ResNet-34 (50)       --cfg-options teacher.train_cfg.max_epochs=50
                         teacher.param_scheduler.milestones=20,35,45
    without early stop   distill.stop_epoch=None

Printed, top-1 error of ResNet-18 in percent:

    Table 8   ResNet-34 28.84, ResNet-34 (50) 28.61

beta = 1000 is printed; what it means: ../_base_/distillers/attention_transfer_imagenet.py. Attention transfer
stops together with KD. All other settings: ../_base_/eskd_imagenet.py. What is chosen here:
r34_r18_imagenet_eskd.py.
"""
_base_ = ['../_base_/eskd_imagenet.py', '../_base_/distillers/attention_transfer_imagenet.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet34.py'))
distill = dict(stop_epoch=60)
