"""Distillation in CheckpointKD's experiments, Eq. 1 and 2.

The paper searched alpha and tau for each pair and prints neither: tau = 4 and nine parts of distillation
to one of labels, as in the code of attention transfer (Zagoruyko and Komodakis), until ``tools/sweep.py``
has searched.
"""
distill = dict(tau=4.0, aggregation='prob', ce_weight=0.1, kd_weight=0.9, stop_epoch=None)
student_alone = False
