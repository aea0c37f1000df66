"""KD of standardised logits on the problem of kd.py (CVPR 2024, arXiv 2403.01427).

    python tools/train.py configs/small/logit_standardization.py --cfg-options teacher.trajectory=work_dirs/kd

tau 2 is chosen here: standardised logits have standard deviation 1, and a tau of 4 would leave little of them.
"""
_base_ = 'kd.py'

distill = dict(tau=2.0, standardize=True)
student_alone = False
