"""FitNets' first stage (Romero et al., arXiv 1412.6550, Sec. 2.2) for a CIFARResNet student of a
CIFARResNet teacher.

Hint and guided layer are the middle ones, the outputs of the second of three stages. The regressor r is a 1x1
convolution, since the maps have one size, with the ReLU that the hint has, too.

Their Eq. 3 is 1/2 * ||hint - r(guided)||^2, a sum over C * H * W values, trained with RMSProp at 0.005. Here
it is the mean squared error, C * H * W / 2 times less, so that the student's own SGD at a learning rate of
0.1 (DIH) can train with it; with the sum it diverges in the first steps. The code of DIH's authors has the
mean squared error, too, of the first stages.

40 epochs, as DIH gives this stage (footnote 7); the 200 of the second, KD, are the student's own.
"""
hint = dict(
    train_cfg=dict(max_epochs=40),
    distiller=dict(
        type='ckd_mm.FeatureDistiller',
        losses=dict(
            loss_hint=dict(
                type='ckd_mm.HintLoss', student_channels=32, teacher_channels=32, reduction='mean',
                student='backbone.layer2', teacher='networks.0.backbone.layer2'))))
