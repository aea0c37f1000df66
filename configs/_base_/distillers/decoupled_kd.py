"""Decoupled KD (Zhao et al., CVPR 2022, arXiv 2203.08679) with its authors' settings for CIFAR-100.

Loss = CE + DKD with tau = 4, alpha = 1 (target class), beta = 8 (the others; 1 to 8 by pair, their Table 9),
DKD's weight rising from 0 over the first 20 epochs. The authors' code raises it once an epoch, here it rises
in every iteration.
"""
distill = dict(
    loss=dict(type='ckd_mm.DecoupledKDLoss', tau=4.0, target_weight=1.0, non_target_weight=8.0),
    ce_weight=1.0, kd_weight=1.0, stop_epoch=None,
    schedule=dict(type='ckd_mm.AnnealDistillationHook', begin=0, end=20, start_value=0.0, end_value=1.0))
student_alone = False
