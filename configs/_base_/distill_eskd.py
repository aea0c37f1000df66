"""Distillation as ESKD prints it (Sec. 3 and 4): L = alpha L_cls + (1 - alpha) L_KD with
alpha = 0.9, tau = 4.

So the labels weigh 0.9 and the teacher 0.1, times tau squared. The paper calls alpha = 0.9 "popular" and
cites works, attention transfer among them, in whose code 0.9 weighs the teacher; and a training cross-entropy
of 0.12 to 0.15 of a ResNet-18 on ImageNet (Table 3) looks like a tenth of the real one. That reading is
``--cfg-options distill.ce_weight=0.1 distill.kd_weight=0.9``.
"""
distill = dict(tau=4.0, aggregation='prob', ce_weight=0.9, kd_weight=0.1, stop_epoch=None)
student_alone = False
