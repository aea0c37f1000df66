"""KD with attention transfer on networks of three stages for small images (ckd_mm.CIFARResNet,
ckd_mm.WideResNet), as ESKD.

Attention transfer (Zagoruyko and Komodakis, arXiv 1612.03928): after each stage j, Q_j is the map (H x W) of
the channels' mean squares, scaled to length 1. Their Eq. 2 prints beta/2 * sum_j ||Q_j(student) -
Q_j(teacher)||; their code, with beta = 1000, computes beta * sum_j mean((Q_j(student) - Q_j(teacher))^2):
squared, without the half, divided by the map's elements and the batch. That is mmrazor.ATLoss with
loss_weight=1000, and what beta = 1000 means here (ESKD, Sec. 4).

alpha = 0.9 and tau = 4 are read as ESKD prints them, see ../distill_eskd.py, which this file replaces:
``loss = 0.9 * CE + 0.1 * KD`` plus attention transfer. In Zagoruyko and Komodakis's own code 0.9 weighs KD.

Teacher and student need maps of one size after each stage; their channels may differ. The sources are those
of a SnapshotEnsemble.
"""
stages = ('layer1', 'layer2', 'layer3')
distill = dict(
    tau=4.0, aggregation='prob', ce_weight=0.9, kd_weight=0.1, stop_epoch=None,
    distiller=dict(
        type='mmrazor.ConfigurableDistiller', _scope_='mmrazor',
        student_recorders={stage: dict(type='ModuleOutputs', source=f'backbone.{stage}') for stage in stages},
        teacher_recorders={
            stage: dict(type='ModuleOutputs', source=f'networks.0.backbone.{stage}')
            for stage in stages
        },
        distill_losses={f'loss_at_{stage}': dict(type='ATLoss', loss_weight=1000.0) for stage in stages},
        loss_forward_mappings={
            f'loss_at_{stage}': dict(
                s_feature=dict(recorder=stage, from_student=True),
                t_feature=dict(recorder=stage, from_student=False))
            for stage in stages
        }))
student_alone = False
del stages
