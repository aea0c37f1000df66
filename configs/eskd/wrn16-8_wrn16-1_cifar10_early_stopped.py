"""WRN-16-8, stopped early, teaches WRN-16-1 on CIFAR-10 (ESKD, Figures 4, 5 and 6).

    python tools/train.py configs/eskd/wrn16-8_wrn16-1_cifar10_early_stopped.py

The teacher's whole schedule is shortened to n = 35 epochs, x0.2 after every floor((n - 5) / 3). The others:

    50   --cfg-options teacher.train_cfg.max_epochs=50 teacher.param_scheduler.milestones=15,30,45
    65   teacher.train_cfg.max_epochs=65 teacher.param_scheduler.milestones=20,40,60
    80   teacher.train_cfg.max_epochs=80 teacher.param_scheduler.milestones=25,50,75

Figure 6 is a run for each tau and each pair of weights:
``--cfg-options teacher.trajectory=FOLDER distill.tau=8``. To *choose* them, without the test images:

    python tools/sweep.py configs/eskd/wrn16-8_wrn16-1_cifar10_early_stopped.py \
        --work-dir work_dirs/search --search distill.tau=1,2,4,8,16 \
        "distill.ce_weight+distill.kd_weight=[(0.9,0.1),(0.5,0.5),(0.1,0.9)]"

The errors are drawn, not printed. The largest of the paper's teachers is stopped, as its Figure 6 says
(WRN-16-8, ES). All other settings: ../_base_/eskd_cifar10.py, ../_base_/distill_eskd.py. What is chosen here:
wrn16-3_wrn16-1_cifar10.py.
"""
_base_ = ['../_base_/models/wrn16-1_cifar10.py', '../_base_/eskd_cifar10.py', '../_base_/distill_eskd.py']

teacher = dict(
    model=dict(cfg_path='{{fileDirname}}/../_base_/models/wrn16-8_cifar10.py'),
    train_cfg=dict(max_epochs=35), param_scheduler=dict(milestones=[10, 20, 30]))
