"""ResNet-50 and its four heads teach ResNet-18 on ImageNet, by DIH.

    tools/dist_train.sh configs/dih/r50_r18_imagenet.py 8

DIH prints nothing on ImageNet. All of this is chosen here: tau and the weights are those of its CIFAR
experiments, the recipe is that of ESKD's ImageNet experiments. On a flattened output of the first stage a
head would have 802,816,000 weights; here each stage is pooled to 2x2 first, which makes them 1 to 8 million.
A linear layer on frozen features needs no 100 epochs: the heads have 20.

KD: ``--cfg-options heads=None teacher.trajectory=work_dirs/r50_r18_imagenet`` with a
``--work-dir`` of its own.
"""
_base_ = [
    '../_base_/models/resnet18.py', '../_base_/datasets/imagenet_bs32.py',
    '../_base_/schedules/imagenet_100e.py', '../_base_/distill_dih.py', '../_base_/default_runtime.py'
]

# an epoch takes long: a killed run loses at most 1,000 iterations of it
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1000))
teacher = dict(model=dict(cfg_path='{{fileDirname}}/../_base_/models/resnet50.py'))
heads = dict(
    out_indices=(0, 1, 2, 3), kind='pool', grid=2,
    train_cfg=dict(max_epochs=20),
    param_scheduler=dict(type='MultiStepLR', by_epoch=True, milestones=[10, 15], gamma=0.1))
