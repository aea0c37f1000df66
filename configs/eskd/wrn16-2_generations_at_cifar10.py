"""WRN-16-2 in five generations of KD and attention transfer on CIFAR-10 (ESKD, Table 4).

    python tools/train.py configs/eskd/wrn16-2_generations_at_cifar10.py

The first network learns from labels, five more learn each from the one before, with seeds of their own. The
run reports every generation, the ensemble of the five, with and without the first, and the ensemble of five
networks from scratch. "First generation" is taken as the network that learned from labels: "5 generations of
knowledge distillation were done".

Printed, errors in percent:

    WRN-16-2, AT+KD   last generation 5.696, all generations 5.310, scratch 6.418, scratch ensemble 5.003

beta = 1000 is printed; what it means: ../_base_/distillers/attention_transfer_cifar.py. All other settings:
../_base_/eskd_cifar10.py. What is chosen here: wrn16-3_wrn16-1_cifar10.py.
"""
_base_ = [
    '../_base_/models/wrn16-2_cifar10.py', '../_base_/eskd_cifar10.py',
    '../_base_/distillers/attention_transfer_cifar.py'
]

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/wrn16-2_cifar10.py'))
generations = 5
student_alone = 5
