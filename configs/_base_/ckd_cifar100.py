"""CheckpointKD's experiments on CIFAR-100 (Tables 1, 2 and 3) without the networks: data, recipe,
distillation.

A teacher keeps a snapshot every 10 epochs.
"""
_base_ = ['datasets/cifar100_bs128.py', 'schedules/cifar_200e.py', 'distill.py', 'default_runtime.py']

teacher = dict(snapshots=dict(interval=10))
