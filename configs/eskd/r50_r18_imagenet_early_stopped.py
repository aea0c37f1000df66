"""ResNet-50, stopped after 35 epochs, teaches ResNet-18 on ImageNet by ESKD (ESKD, Tables 8 and 10).

    tools/dist_train.sh configs/eskd/r50_r18_imagenet_early_stopped.py 8

The teacher's schedule is shortened as printed, x0.1 after 15, 25 and 30 epochs. The others:

    ResNet-152 (35)  --cfg-options teacher.model.cfg_path=configs/_base_/models/resnet152.py
    ResNet-34 (50)   teacher.model.cfg_path=configs/_base_/models/resnet34.py teacher.train_cfg.max_epochs=50
                     teacher.param_scheduler.milestones=20,35,45
    Table 10         distill.tau=20

Printed, top-1 error of ResNet-18 in percent:

    Table 8             ResNet-34 (50) 29.02, ResNet-50 (35) 29.05, ResNet-152 (35) 29.26
    Table 10, tau = 20  ResNet-50 (35) 28.89

The student stops distilling early, too: r34_r18_imagenet_eskd.py, which also says what is chosen here. All
other settings: ../_base_/eskd_imagenet.py, ../_base_/distill_eskd.py.
"""
_base_ = ['../_base_/eskd_imagenet.py', '../_base_/distill_eskd.py']

teacher = dict(
    model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet50.py'),
    train_cfg=dict(max_epochs=35), param_scheduler=dict(milestones=[15, 25, 30]))
distill = dict(stop_epoch=60)
