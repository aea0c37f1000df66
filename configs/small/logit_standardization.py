"""KD of standardised logits on the problem of kd.py (CVPR 2024, arXiv 2403.01427).

    python tools/train.py configs/small/logit_standardization.py --cfg-options teacher.trajectory=work_dirs/kd

tau 2 and the weights are those of the method's authors for KD: standardised logits are small, so the loss weighs more.
"""
_base_ = 'kd.py'

distill = dict(tau=2.0, ce_weight=0.1, kd_weight=9.0, standardize=True)
student_alone = False
