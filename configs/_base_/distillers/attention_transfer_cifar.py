"""KD with attention transfer on networks of three stages for small images (ckd_mm.CIFARResNet,
ckd_mm.WideResNet), as ESKD.

Attention transfer (Zagoruyko and Komodakis, arXiv 1612.03928): after each stage j, Q_j is the map (H x W) of
the channels' mean squares, scaled to length 1. Their Eq. 2 prints beta/2 * sum_j ||Q_j(student) -
Q_j(teacher)||; their code, with beta = 1000, computes beta * sum_j mean((Q_j(student) - Q_j(teacher))^2):
squared, without the half, divided by the map's elements and the batch. That is ckd_mm.AttentionTransferLoss
with loss_weight=1000, and what beta = 1000 means here (ESKD, Sec. 4).

alpha = 0.9 and tau = 4 are read as ESKD prints them, see ../distill_eskd.py, which this file replaces:
``loss = 0.9 * CE + 0.1 * KD`` plus attention transfer. In Zagoruyko and Komodakis's own code 0.9 weighs KD.

Teacher and student need maps of one size after each stage; their channels may differ. The teacher's layers
are those of a SnapshotEnsemble.
"""
distill = dict(
    tau=4.0, aggregation='prob', ce_weight=0.9, kd_weight=0.1, stop_epoch=None,
    distiller=dict(
        type='ckd_mm.FeatureDistiller',
        losses={
            f'loss_at_{stage}': dict(
                type='ckd_mm.AttentionTransferLoss', loss_weight=1000.0, student=f'backbone.{stage}',
                teacher=f'networks.0.backbone.{stage}')
            for stage in ('layer1', 'layer2', 'layer3')
        }))
student_alone = False
