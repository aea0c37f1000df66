"""DIH's experiments on CIFAR-100 (Tables 2, 3 and 4) and those of the methods that are compared with it,
without the teacher: ResNet-8 learns.

Batch 64 on one GPU. The seeds are 3, 10 and 21.
"""
_base_ = [
    'models/dih_resnet8_cifar100.py', 'datasets/cifar100_bs128.py', 'schedules/cifar_200e.py',
    'default_runtime.py'
]

train_dataloader = dict(batch_size=64)
auto_scale_lr = dict(base_batch_size=64)
randomness = dict(seed=3)
