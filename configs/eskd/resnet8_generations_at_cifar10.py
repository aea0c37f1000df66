"""ResNet-8 in five generations of KD and attention transfer on CIFAR-10 (ESKD, Table 4).

    python tools/train.py configs/eskd/resnet8_generations_at_cifar10.py

Printed, errors in percent:

    ResNet-8, AT+KD   last generation 13.469, all generations 12.786, scratch 12.569, scratch ensemble 10.176

What is reported, and what is chosen here: wrn16-2_generations_at_cifar10.py. All other settings:
../_base_/eskd_cifar10.py.
"""
_base_ = [
    '../_base_/models/resnet8_cifar10.py', '../_base_/eskd_cifar10.py',
    '../_base_/distillers/attention_transfer_cifar.py'
]

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet8_cifar10.py'))
generations = 5
student_alone = 5
