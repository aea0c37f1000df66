"""KD with attention transfer as in attention_transfer_cifar.py, on ResNets of four stages (mmpretrain ResNet,
ResNet_CIFAR), as ESKD on ImageNet (Table 8).
"""
_base_ = 'attention_transfer_cifar.py'

distill = dict(
    distiller=dict(
        losses=dict(
            loss_at_layer4=dict(
                type='ckd_mm.AttentionTransferLoss', loss_weight=1000.0, student='backbone.layer4',
                teacher='networks.0.backbone.layer4'))))
