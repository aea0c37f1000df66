"""Smoothed labels and no teacher on the problem of kd.py.

    python tools/train.py configs/small/label_smoothing.py
"""
_base_ = '../_base_/cifar10_small.py'

model = dict(head=dict(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')))
teacher = None
