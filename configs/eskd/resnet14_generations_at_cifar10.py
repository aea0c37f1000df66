"""ResNet-14 in five generations of KD and attention transfer on CIFAR-10 (ESKD, Table 4).

    python tools/train.py configs/eskd/resnet14_generations_at_cifar10.py

Printed, errors in percent:

    ResNet-14, AT+KD   last generation 9.226, all generations 8.653, scratch 9.078, scratch ensemble 6.675

What is reported, and what is chosen here: wrn16-2_generations_at_cifar10.py. All other settings:
../_base_/eskd_cifar10.py.
"""
_base_ = [
    '../_base_/models/resnet14_cifar10.py', '../_base_/eskd_cifar10.py',
    '../_base_/distillers/attention_transfer_cifar.py'
]

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet14_cifar10.py'))
generations = 5
student_alone = 5
