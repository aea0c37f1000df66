"""FitNets on the problem of kd.py: three epochs of hints for the student's second stage, then KD.

    python tools/train.py configs/small/fitnets.py --cfg-options teacher.trajectory=work_dirs/kd
"""
_base_ = [
    '../_base_/cifar10_small.py', '../_base_/cifar10_small_teacher.py', '../_base_/distill_small.py',
    '../_base_/distillers/fitnets_hint_cifar.py'
]

teacher = dict(snapshots=dict(phases=1))
selector = 'last'
hint = dict(
    train_cfg=dict(max_epochs=3), param_scheduler=dict(T_max=3),
    distiller=dict(losses=dict(loss_hint=dict(student_channels=16))))
