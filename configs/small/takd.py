"""TAKD on the problem of kd.py: a ResNet-8 of full width stands between teacher and student.

    python tools/train.py configs/small/takd.py --cfg-options teacher.trajectory=work_dirs/kd
"""
_base_ = 'kd.py'

assistants = [dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet8_cifar10.py'))]
student_alone = False
