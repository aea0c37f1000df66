"""Deep mutual learning on the problem of kd.py: student and ResNet-14 learn together, for the 6 epochs of
the student.

    python tools/train.py configs/small/dml.py
"""
_base_ = '../_base_/cifar10_small.py'

peer = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet14_cifar10.py'))
distill = dict(tau=1.0)
