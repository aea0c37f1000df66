"""DenseNet-100-12 teaches DenseNet-40-12 on CIFAR-10 (ESKD, Figures 2 and 5).

    python tools/train.py configs/eskd/densenet100-12_densenet40-12_cifar10.py

Other teachers, each in a ``--work-dir`` of its own:

    Wide ResNets (Figure 5)   --cfg-options teacher.model.cfg_path=configs/_base_/models/wrn16-8_cifar10.py
    early-stopped (Figure 5)  teacher.train_cfg.max_epochs=50 teacher.param_scheduler.milestones=15,30,45

The errors are drawn, not printed. Which depths the teachers have is not printed either: 100 layers is the
largest of this kind in the paper of DenseNet; other depths need
``teacher.model.head.in_channels=16+12*(depth-4)``, too. All other settings: ../_base_/eskd_cifar10.py,
../_base_/distill_eskd.py. What is chosen here: wrn16-3_wrn16-1_cifar10.py.
"""
_base_ = [
    '../_base_/models/densenet40-12_cifar10.py', '../_base_/eskd_cifar10.py', '../_base_/distill_eskd.py'
]

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/densenet100-12_cifar10.py'))
