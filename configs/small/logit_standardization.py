"""KD of standardised logits on the problem of kd.py (CVPR 2024, arXiv 2403.01427).

    python tools/train.py configs/small/logit_standardization.py --cfg-options teacher.trajectory=work_dirs/kd

tau 2 and the weight 9 are those of the method's authors for KD. Gradients pass through 1 / (standard
deviation of the student's logits), which mmpretrain's heads begin small: with the whole weight from the first
step the student learns nothing (9.4 %), so it rises over the first 2 epochs.
"""
_base_ = ['../_base_/cifar10_small.py', '../_base_/cifar10_small_teacher.py', '../_base_/distill_small.py']

teacher = dict(snapshots=dict(phases=1))
selector = 'last'
distill = dict(
    tau=2.0, ce_weight=1.0, kd_weight=9.0, standardize=True,
    schedule=dict(type='ckd_mm.AnnealDistillationHook', begin=0, end=2, start_value=0.0, end_value=9.0))
