"""Distillation in DIH's experiments, Eq. 4 and 5: L = alpha L_DIH + (1 - alpha) L_CE with
alpha = 0.1, tau = 5.

``aggregation='loss'`` is the mean of the teachers' losses, ``reduction='mean'`` one cross-entropy beside it.
In the authors' code every teacher brings a cross-entropy of its own and all are added up, k + 1 times Eq. 5:
``--cfg-options distill.reduction=sum``. The last checkpoint of the teacher teaches.
"""
teacher = dict(snapshots=dict(phases=1))
selector = 'last'
distill = dict(tau=5.0, aggregation='loss', reduction='mean', ce_weight=0.9, kd_weight=0.1, stop_epoch=None)
student_alone = False
