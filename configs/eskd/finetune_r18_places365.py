"""A ResNet-18 that was distilled on ImageNet is fine-tuned on Places365 (ESKD, Table 9).

    tools/dist_train.sh configs/eskd/finetune_r18_places365.py 8 \
        --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/r34_r18_imagenet_eskd/student.pth

is an ordinary mmpretrain run whose backbone starts from the student's; the classifier is new. The rows are
other students:

    ESKD, Full KD   r34_r18_imagenet_eskd.py, r34_r18_imagenet_kd.py, and with the other teachers that their
                    headers name
    teacher (n)     early-stopped teachers: r50_r18_imagenet_early_stopped.py
    Scratch         student_alone=True there; its student is the last checkpoint in student_alone/

Printed, top-1 and top-5 error in percent:

    Scratch   47.38, 18.51
    Full KD   ResNet34 47.86, 18.61; ResNet50 47.92, 18.72
    ESKD      ResNet18 47.09, 18.13; ResNet34 (50) 47.14, 18.32; ResNet50 (35) 47.02, 18.14;
              ResNet152 (35) 47.25, 18.25

12 epochs, the learning rate 0.1 and its fall to a tenth every 3 epochs are printed. Not printed and chosen
here: batch 256, momentum and weight decay of the ImageNet experiments, and that all layers learn.
"""
_base_ = [
    '../_base_/models/resnet18.py', '../_base_/datasets/places365_bs32.py', '../_base_/default_runtime.py'
]

runner_type = 'Runner'  # mmengine's own

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/r34_r18_imagenet_eskd/student.pth', prefix='backbone')),
    head=dict(num_classes=365))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[3, 6, 9], gamma=0.1)
train_cfg = dict(by_epoch=True, max_epochs=12, val_interval=1)
val_cfg = dict()
test_cfg = dict()
