"""Distillation in CheckpointKD's experiments, Eq. 1 and 2.

The paper searched alpha and tau for each pair and prints neither: these are ESKD's, until ``tools/sweep.py`` has searched.
"""
distill = dict(tau=4.0, aggregation='prob', ce_weight=0.1, kd_weight=0.9, stop_epoch=None)
student_alone = False
