"""ResNet-110 and its three heads teach ResNet-8 on CIFAR-10 (DIH, Table 2).

    python tools/train.py configs/dih/res110_res8_cifar10.py --cfg-options randomness.seed=3

trains the teacher, three heads on its frozen stages, then the student, taught by all four. Seeds: 3, 10, 21,
each with a ``--work-dir`` of its own. The other columns use the same teacher:

    python tools/train.py configs/dih/res110_res8_cifar10.py --work-dir work_dirs/KD \
        --cfg-options teacher.trajectory=work_dirs/res110_res8_cifar10 heads=None

    CE                  student_alone=True, beside any of them
    DIH, authors' code  distill.reduction=sum: every teacher brings a cross-entropy of its own
    some heads only     heads.use=[0,1], heads.use=[teacher,2]

Printed, top-1 accuracy in percent, mean of three seeds:

    Table 2   CE 87.64, KD 88.12, DIH 88.59

All settings are printed, but how the heads are trained: like the teacher, for 200 epochs, as the authors'
published commands do. Nor is it printed which epoch is evaluated: their code takes that of the lowest loss on
the test images, this run the last one. A head is one linear layer on the flattened output of a stage,
163,840, 81,920 and 40,960 weights.
"""
_base_ = ['../_base_/dih_res8_cifar10.py', '../_base_/distill_dih.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/dih_resnet110_cifar10.py'))
heads = dict(out_indices=(0, 1, 2), kind='flatten')
