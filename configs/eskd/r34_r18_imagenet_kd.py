"""ResNet-34 teaches ResNet-18 on ImageNet to the end, "full KD" (ESKD, Figure 3, Tables 1, 3 and 10).

    tools/dist_train.sh configs/eskd/r34_r18_imagenet_kd.py 8

Other teachers: ``--cfg-options teacher.model.cfg_path=configs/_base_/models/resnet50.py``, or resnet18,
resnet152. Figure 3, and the student from scratch: ``student_alone=True``. Table 10: ``distill.tau=20``.

Printed, top-1 error of ResNet-18 in percent:

    Table 1             from scratch 30.24, from ResNet-18 30.57, from ResNet-34 30.79, from ResNet-50 30.95
    Table 10, tau = 20  from ResNet-18 30.75, from ResNet-50 30.98, from ResNet-152 31.27
    Table 3, KD loss    ResNet-34: train 1.357, test 1.503; ResNet-18: 2.916, 3.358; ResNet-50: 1.553, 1.721
    Table 3, train CE   ResNet-34: 0.145; ResNet-18: 0.146; ResNet-50: 0.146

Chosen here: 100 epochs and batch 256 (../_base_/schedules/imagenet_100e.py), how alpha is read
(../_base_/distill_eskd.py).
"""
_base_ = ['../_base_/eskd_imagenet.py', '../_base_/distill_eskd.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet34.py'))
