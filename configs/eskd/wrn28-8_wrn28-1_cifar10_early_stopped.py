"""WRN-28-8, stopped early, teaches WRN-28-1 on CIFAR-10 (ESKD, Figure 4).

    python tools/train.py configs/eskd/wrn28-8_wrn28-1_cifar10_early_stopped.py

The teacher's whole schedule is shortened to n = 35 epochs, x0.2 after every floor((n - 5) / 3). The others:

    50   --cfg-options teacher.train_cfg.max_epochs=50 teacher.param_scheduler.milestones=15,30,45
    65   teacher.train_cfg.max_epochs=65 teacher.param_scheduler.milestones=20,40,60
    80   teacher.train_cfg.max_epochs=80 teacher.param_scheduler.milestones=25,50,75

The errors are drawn, not printed. The largest of the paper's teachers is stopped, as its Figure 6 says
(WRN-16-8, ES). All other settings: ../_base_/eskd_cifar10.py, ../_base_/distill_eskd.py. What is chosen here:
wrn16-3_wrn16-1_cifar10.py.
"""
_base_ = ['../_base_/models/wrn28-1_cifar10.py', '../_base_/eskd_cifar10.py', '../_base_/distill_eskd.py']

teacher = dict(
    model=dict(cfg_path='{{fileDirname}}/../_base_/models/wrn28-8_cifar10.py'),
    train_cfg=dict(max_epochs=35), param_scheduler=dict(milestones=[10, 20, 30]))
