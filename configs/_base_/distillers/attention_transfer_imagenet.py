"""KD with attention transfer as in attention_transfer_cifar.py, on ResNets of four stages (mmpretrain ResNet,
ResNet_CIFAR), as ESKD on ImageNet (Table 8).
"""
_base_ = 'attention_transfer_cifar.py'

distill = dict(
    distiller=dict(
        student_recorders=dict(layer4=dict(type='ModuleOutputs', source='backbone.layer4')),
        teacher_recorders=dict(layer4=dict(type='ModuleOutputs', source='networks.0.backbone.layer4')),
        distill_losses=dict(loss_at_layer4=dict(type='ATLoss', loss_weight=1000.0)),
        loss_forward_mappings=dict(
            loss_at_layer4=dict(
                s_feature=dict(recorder='layer4', from_student=True),
                t_feature=dict(recorder='layer4', from_student=False)))))
