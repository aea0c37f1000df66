"""ResNet-110 teaches MobileNetV2 (width 0.75) on CIFAR-100 (CheckpointKD, Tables 1 and 3).

    python tools/train.py configs/ckd/resnet110_mobilenetv2_cifar100.py

trains the teacher for 200 epochs, probes its 20 snapshots and distils from T*. The other columns use the
same teacher:

    python tools/train.py configs/ckd/resnet110_mobilenetv2_cifar100.py --work-dir work_dirs/T_full \
        --cfg-options teacher.trajectory=work_dirs/resnet110_mobilenetv2_cifar100 probe=None selector=last

    T_half, T_0.5   selector=half_way
    T_0.3, T_0.7    selector.type=fraction selector.fraction=0.3
    best            the best of the students of all snapshots (Figure 2, tools/sweep.py)
    student alone   student_alone=True, beside any of them

Printed, top-1 accuracy in percent, mean and spread of five runs:

    networks      T_full 73.41, T_half 59.43, student alone 64.49
    Table 1, KD   T_full 68.63 ± 0.35, T_half 68.79 ± 0.17, best 69.05 ± 0.27
    Table 3, KD   T_0.3 67.84 ± 0.26, T_0.5 68.79 ± 0.17, T_0.7 69.01 ± 0.20, T_full 68.63 ± 0.35,
                  T* 68.99 ± 0.33 (epoch 120)

Not printed and chosen here: the student's 200 epochs on the same schedule, tau and the weights. As in the
paper, the teacher is trained on all images and T* is chosen with the test labels;
``probe.probe_split=held_out`` chooses without them.
"""
_base_ = ['../_base_/models/mobilenetv2-0.75_cifar100.py', '../_base_/ckd_cifar100.py']

teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet110_cifar100.py'))
probe = dict(probe_split='test', num_images=10000)
selector = dict(type='information_plane')
