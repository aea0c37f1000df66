"""ESKD's experiments on CIFAR-10 (Sec. 4) without the networks: data, recipe, and its measures of how well a
student follows.

The recipe: 200 epochs, SGD with momentum 0.9, a learning rate of 0.1, x0.2 every 60 epochs. Neither weight
decay nor batch size is printed: 5e-4 and 128 are those of Wide ResNets (arXiv 1605.07146), whose networks and
augmentation these are. Momentum is printed without Nesterov's, which the same section does print for
ImageNet. The last checkpoint of the teacher teaches.

KD error and KD loss on the test images come with every validation, ``kd/error`` and ``kd/divergence``; on the
training images, as they are learned from, once an epoch (Table 2).
"""
_base_ = ['datasets/cifar10_bs128.py', 'default_runtime.py']

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[60, 120, 180], gamma=0.2)
train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=1)
val_cfg = dict()
test_cfg = dict()

val_evaluator = [dict(type='Accuracy', topk=(1, )), dict(type='ckd_mm.KDMetric')]
test_evaluator = val_evaluator
custom_hooks = [dict(type='ckd_mm.TrainAgreementHook')]

teacher = dict(snapshots=dict(phases=1))
selector = 'last'
