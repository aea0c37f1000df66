"""ResNet-110 teaches ResNet-32 on CIFAR-100 (CheckpointKD, Tables 1 and 3).

    python tools/train.py configs/ckd/resnet110_resnet32_cifar100.py

trains the teacher for 200 epochs, probes its 20 snapshots and distils from T*. The other columns use the
same teacher:

    python tools/train.py configs/ckd/resnet110_resnet32_cifar100.py --work-dir work_dirs/T_full \
        --cfg-options teacher.trajectory=work_dirs/resnet110_resnet32_cifar100 probe=None selector=last

    T_half, T_0.5   selector=half_way
    T_0.3, T_0.7    selector.type=fraction selector.fraction=0.3
    best            the best of the students of all snapshots (Figure 2, tools/sweep.py)
    student alone   student_alone=True, beside any of them

Printed, top-1 accuracy in percent, mean and spread of five runs:

    networks      T_full 73.41, T_half 59.43, student alone 70.16
    Table 1, KD   T_full 72.48 ± 0.22, T_half 72.49 ± 0.32, best 72.63 ± 0.13
    Table 3, KD   T_0.3 70.74 ± 0.18, T_0.5 72.49 ± 0.32, T_0.7 72.46 ± 0.30, T_full 72.48 ± 0.22,
                  T* 72.63 ± 0.13 (epoch 120)

Not printed and chosen here: the student's 200 epochs on the same schedule, tau and the weights. As in the
paper, the teacher is trained on all images and T* is chosen with the test labels;
``probe.probe_split=held_out`` chooses without them.
"""
_base_ = ['../_base_/models/resnet32_cifar100.py', '../_base_/ckd_cifar100.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet110_cifar100.py'))
probe = dict(probe_split='test', num_images=10000)
selector = dict(type='information_plane')
