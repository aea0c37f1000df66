"""WRN-16-3 after five generations of KD teaches WRN-16-1 on CIFAR-10 (ESKD, Table 5).

    python tools/train.py configs/eskd/wrn16-3_generations_wrn16-1_cifar10.py

Printed, errors in percent, of the student mean and spread of five runs:

    teacher from scratch         teacher 5.34, student 7.68 ± 0.259
    teacher after 5 iterations   teacher 4.89, student 7.67 ± 0.19
    student alone                8.759 ± 0.129

The first row is wrn16-3_wrn16-1_cifar10.py, the last ``--cfg-options student_alone=True``. The generations
are assistants of the teacher's own size, trained like all others, with seeds of their own. All other
settings: ../_base_/eskd_cifar10.py, ../_base_/distill_eskd.py. What is chosen here:
wrn16-3_wrn16-1_cifar10.py.
"""
_base_ = ['../_base_/models/wrn16-1_cifar10.py', '../_base_/eskd_cifar10.py', '../_base_/distill_eskd.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/wrn16-3_cifar10.py'))
assistants = [
    dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/wrn16-3_cifar10.py')) for _ in range(5)
]
