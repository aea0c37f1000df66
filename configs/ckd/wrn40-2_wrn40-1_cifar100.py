"""WRN-40-2 teaches WRN-40-1 on CIFAR-100 (CheckpointKD, Tables 1 and 3).

    python tools/train.py configs/ckd/wrn40-2_wrn40-1_cifar100.py

trains the teacher for 200 epochs, probes its 20 snapshots and distils from T*. The other columns use the
same teacher:

    python tools/train.py configs/ckd/wrn40-2_wrn40-1_cifar100.py --work-dir work_dirs/T_full \
        --cfg-options teacher.trajectory=work_dirs/wrn40-2_wrn40-1_cifar100 probe=None selector=last

    T_half, T_0.5   selector=half_way
    T_0.3, T_0.7    selector.type=fraction selector.fraction=0.3
    best            the best of the students of all snapshots (Figure 2, tools/sweep.py)
    student alone   student_alone=True, beside any of them

Printed, top-1 accuracy in percent, mean and spread of five runs:

    networks      T_full 76.53, T_half 62.99, student alone 70.38
    Table 1, KD   T_full 72.68 ± 0.10, T_half 72.76 ± 0.24, best 73.26 ± 0.03
    Table 3, KD   T_0.3 72.34 ± 0.10, T_0.5 72.76 ± 0.24, T_0.7 73.08 ± 0.05, T_full 72.68 ± 0.10,
                  T* 73.26 ± 0.03 (epoch 160)

Not printed and chosen here: the student's 200 epochs on the same schedule, tau and the weights. As in the
paper, the teacher is trained on all images and T* is chosen with the test labels;
``probe.probe_split=held_out`` chooses without them.
"""
_base_ = ['../_base_/models/wrn40-1_cifar100.py', '../_base_/ckd_cifar100.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/wrn40-2_cifar100.py'))
probe = dict(probe_split='test', num_images=10000)
selector = dict(type='information_plane')
