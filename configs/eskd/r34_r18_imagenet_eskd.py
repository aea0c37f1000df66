"""ResNet-34 teaches ResNet-18 on ImageNet for a part of its training, "ESKD" (ESKD, Tables 3, 8 and 10).

    tools/dist_train.sh configs/eskd/r34_r18_imagenet_eskd.py 8

Other teachers: ``--cfg-options teacher.model.cfg_path=configs/_base_/models/resnet50.py``, or resnet18,
resnet152. Table 10: ``distill.tau=20``.

Printed, top-1 error of ResNet-18 in percent:

    Tables 3 and 8      from ResNet-18 29.01, from ResNet-34 29.16, from ResNet-50 29.35,
                        from ResNet-152 29.45
    Table 10, tau = 20  from ResNet-18 29.00, from ResNet-50 29.00
    Table 3, KD loss    ResNet-34: train 2.359, test 2.582; ResNet-18: 2.234, 2.491; ResNet-50: 2.659, 2.940
    Table 3, train CE   ResNet-34: 0.123; ResNet-18: 0.123; ResNet-50: 0.124

After which epoch is not printed ("close to convergence"). Chosen here: after 60, where the learning rate
falls for the second time; for the last 40 epochs the student learns from labels alone, and nothing is
measured against the teacher on training images. All other settings: ../_base_/eskd_imagenet.py,
../_base_/distill_eskd.py. What else is chosen here: r34_r18_imagenet_kd.py.
"""
_base_ = ['../_base_/eskd_imagenet.py', '../_base_/distill_eskd.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet34.py'))
distill = dict(stop_epoch=60)
