"""DIH on the problem of kd.py: heads on the three stages of the frozen teacher teach with it.

    python tools/train.py configs/small/dih.py --cfg-options teacher.trajectory=work_dirs/kd

Eq. 4 with the weights of kd.py; ``distill.ce_weight=0.9 distill.kd_weight=0.1 distill.tau=5`` are
the paper's.
"""
_base_ = ['../_base_/cifar10_small.py', '../_base_/cifar10_small_teacher.py', '../_base_/distill_small.py']

teacher = dict(snapshots=dict(phases=1))
selector = 'last'
heads = dict(
    # a tenth of the teacher's learning rate: on flattened maps 0.1 makes logits that 8 epochs of weight
    # decay cannot tame
    out_indices=(0, 1, 2), kind='flatten', train_cfg=dict(max_epochs=8),
    optim_wrapper=dict(optimizer=dict(lr=0.01)),
    param_scheduler=dict(type='MultiStepLR', by_epoch=True, milestones=[3, 5, 7], gamma=0.1, _delete_=True))
distill = dict(aggregation='loss')
