"""WRN-16-3 teaches WRN-16-1 on CIFAR-10 (ESKD, Figures 2, 5 and 6, Tables 2, 5 and 6).

    python tools/train.py configs/eskd/wrn16-3_wrn16-1_cifar10.py

trains both for 200 epochs; the teacher teaches to the end ("full KD").
Seeds: the paper has five, without saying which (``--cfg-options randomness.seed=N``, a ``--work-dir`` each).
Other teachers, each in a ``--work-dir`` of its own:

    wider (Figure 2, Table 2)  --cfg-options teacher.model.cfg_path=configs/_base_/models/wrn16-8_cifar10.py
                               or 16-4, 16-6
    deeper (Figure 2)          teacher.model.cfg_path=configs/_base_/models/wrn16-1_cifar10.py
                               teacher.model.backbone.depth=40
    DenseNet (Figure 5)        teacher.model.cfg_path=configs/_base_/models/densenet100-12_cifar10.py
    from scratch               student_alone=True, beside any of them
    tau, alpha (Figure 6)      distill.tau=8, distill.ce_weight=0.5 distill.kd_weight=0.5

Printed, KD error in percent on training and test images (Table 2):

    WRN-16-3   train 1.70, test 6.32
    WRN-16-4   train 1.69, test 6.52
    WRN-16-6   train 1.94, test 6.91
    WRN-16-8   train 1.69, test 7.01

and test errors in percent, mean and spread of five runs (Tables 5 and 6):

    student    from scratch 8.759 ± 0.129, from WRN-16-3 7.68 ± 0.26, from WRN-16-8 8.03 ± 0.14
    WRN-16-3   from scratch 5.34
    WRN-16-8   from scratch 4.41

Chosen here: weight decay, batch size (../_base_/eskd_cifar10.py), how alpha is read
(../_base_/distill_eskd.py), which depths Figure 2 has. The errors on training images are of augmented images
while they are learned from.
"""
_base_ = ['../_base_/models/wrn16-1_cifar10.py', '../_base_/eskd_cifar10.py', '../_base_/distill_eskd.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/wrn16-3_cifar10.py'))
