"""Distillation in the experiments on the small problem (cifar10_small.py): tau and weights as in distill.py.
"""
distill = dict(tau=4.0, aggregation='prob', ce_weight=0.1, kd_weight=0.9)
student_alone = False
