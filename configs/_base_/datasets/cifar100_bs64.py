"""CIFAR-100, batch 64 on one GPU."""
_base_ = 'cifar100_bs128.py'

train_dataloader = dict(batch_size=64)
auto_scale_lr = dict(base_batch_size=64)
