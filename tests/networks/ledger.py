"""The networks that were tried as teacher and student, each in a small size.

``python -m tests.networks.ledger`` writes them into docs/networks.md.
"""

from pathlib import Path
from typing import NamedTuple

from mmpretrain.models import TimmClassifier
from mmpretrain.models.classifiers.base import BaseClassifier
from mmpretrain.registry import MODELS
from torch import nn

LOSS = dict(type='CrossEntropyLoss')
POOL = dict(type='GlobalAveragePooling')
SEVERAL = 'networks are compared here by the softmax of their logits, for images of one label'
GREY = 'expected input[2, 3, 32, 32] to have 1 channels, but got 3 channels instead'


class Network(NamedTuple):
    """
    Args:
        model: config of the classifier, of 10 classes.
        size: height and width of the images, pixels.
        refused: part of the message, where it cannot be trained.
        sample: it is trained in every run of the tests, not only with ``--networks all``.
        package: that it needs.
    """
    model: dict
    size: int = 32
    refused: str | None = None
    sample: bool = False
    package: str | None = None


@MODELS.register_module()
class Headless(TimmClassifier):
    """As TimmClassifier, without a package to install: no head, logits are what ``model`` returns."""

    def __init__(self, num_classes: int, data_preprocessor: dict | None = None) -> None:
        BaseClassifier.__init__(self, data_preprocessor=dict(dict(type='ClsDataPreprocessor'),
                                                             **(data_preprocessor or {})))
        self.model = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.BatchNorm2d(8), nn.ReLU(),
                                   nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
        self.loss_module = nn.CrossEntropyLoss()
        self._register_state_dict_hook(self._remove_state_dict_prefix)
        self._register_load_state_dict_pre_hook(self._add_state_dict_prefix)


def classifier(channels: int, neck: dict | None = POOL, head: dict | None = None, **backbone) -> dict:
    """An ImageClassifier with this backbone and a linear head on so many channels."""
    head = {'type': 'LinearClsHead', 'num_classes': 10, 'loss': LOSS, **(head or {})}
    return dict(type='ImageClassifier', backbone=backbone, neck=neck, head=dict(head, in_channels=channels))


def transformer(channels: int, head: str = 'VisionTransformerClsHead', **backbone) -> dict:
    return classifier(channels, None, dict(type=head), **backbone)


VIT = dict(img_size=32, patch_size=8, arch=dict(embed_dims=16, num_layers=2, num_heads=2,
           feedforward_channels=32))
FOUR = dict(depths=[1] * 4, channels=[8, 8, 16, 16])
SWIN = dict(embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2])

LEDGER = {
    # ------------------------------------------------------------ convolutions
    'AlexNet': Network(dict(type='ImageClassifier', backbone=dict(type='AlexNet', num_classes=10),
                            head=dict(type='ClsHead', loss=LOSS)), 224),
    'ConvMixer': Network(classifier(16, type='ConvMixer', arch=dict(embed_dims=16, depth=2, patch_size=4,
            kernel_size=3))),
    'ConvNeXt': Network(classifier(16, None, type='ConvNeXt', arch=FOUR, stem_patch_size=2), sample=True),
    'CSPNet': Network(classifier(1024, type='CSPDarkNet', depth=53)),
    'DenseNet': Network(classifier(16, type='DenseNet', arch=dict(growth_rate=8, depths=[1, 1, 1, 1],
            init_channels=8))),
    'EdgeNeXt': Network(classifier(16, None, type='EdgeNeXt', arch=dict(channels=[8, 8, 16, 16], depths=[1,
            2, 2, 2], num_heads=[2, 2, 2, 2])), 64),
    'EfficientNet': Network(classifier(1280, type='EfficientNet', arch='b0')),
    'EfficientNetV2': Network(classifier(1280, type='EfficientNetV2', arch='b0')),
    'HorNet': Network(classifier(512, None, type='HorNet', arch='tiny')),
    'HRNet': Network(classifier(2048, [dict(type='HRFuseScales', in_channels=(18, 36, 72, 144)), POOL],
            type='HRNet', arch='w18')),
    'InceptionV3': Network(dict(type='ImageClassifier', backbone=dict(type='InceptionV3', num_classes=10),
            head=dict(type='ClsHead', loss=LOSS)), 96),
    'MobileNetV2': Network(classifier(1280, type='MobileNetV2', widen_factor=0.25)),
    'MobileNetV3': Network(classifier(576, head=dict(type='StackedLinearClsHead', mid_channels=[64]),
            type='MobileNetV3', arch='small')),
    'MobileOne': Network(classifier(64, type='MobileOne', arch=dict(num_blocks=[1] * 4,
            width_factor=[0.125] * 4, num_conv_branches=[1] * 4, num_se_blocks=[0] * 4))),
    'RegNet': Network(classifier(384, type='RegNet', arch='regnetx_400mf')),
    'RepLKNet': Network(classifier(1024, type='RepLKNet', arch='31B')),
    'RepVGG': Network(classifier(1280, type='RepVGG', arch='A0')),
    'RepMLPNet': Network(classifier(64, type='RepMLPNet', img_size=64, arch=dict(channels=[8, 16, 32, 64],
            depths=[1] * 4, sharesets_nums=[1] * 4), reparam_conv_kernels=(1, 3)), 64),
    'Res2Net': Network(classifier(2048, type='Res2Net', depth=50, scales=4, base_width=4)),
    'ResNeSt': Network(classifier(2048, type='ResNeSt', depth=50)),
    'ResNet': Network(classifier(512, type='ResNet', depth=18)),
    'ResNetV1d': Network(classifier(2048, type='ResNetV1d', depth=50)),
    'ResNeXt': Network(classifier(2048, type='ResNeXt', depth=50, groups=4, width_per_group=4)),
    'RIFormer': Network(classifier(32, type='RIFormer', arch=dict(layers=[1] * 4, embed_dims=[8, 16, 24, 32],
            mlp_ratios=[2] * 4, layer_scale_init_value=1e-5)), 64),
    'SEResNet': Network(classifier(2048, type='SEResNet', depth=50)),
    'SEResNeXt': Network(classifier(2048, type='SEResNeXt', depth=50, groups=4, width_per_group=4)),
    'ShuffleNetV1': Network(classifier(960, type='ShuffleNetV1', groups=3)),
    'ShuffleNetV2': Network(classifier(1024, type='ShuffleNetV2', widen_factor=0.5)),
    'VAN': Network(classifier(32, type='VAN', arch=dict(embed_dims=[8, 8, 16, 32], depths=[1] * 4,
            ffn_ratios=[2] * 4))),
    'VGG': Network(classifier(512, type='VGG', depth=11)),
    'ViG': Network(classifier(192, POOL, dict(type='VigClsHead', hidden_dim=32), type='Vig', arch='tiny',
            k=3), 224),
    # ------------------------------------------------------------ tokens
    'BEiT': Network(classifier(16, None, type='BEiTViT', **VIT)),
    'DaViT': Network(classifier(64, type='DaViT', arch=dict(embed_dims=8, depths=[1] * 4, num_heads=[1, 1, 2,
            2]), window_size=2), 64),
    'DeiT3': Network(transformer(16, type='DeiT3', **VIT)),
    'EVA02': Network(classifier(16, None, type='ViTEVA02', **VIT)),
    'HiViT': Network(classifier(384, type='HiViT', arch='tiny', img_size=32)),
    'MixMIM': Network(classifier(64, None, type='MixMIMTransformer', arch=dict(embed_dims=8, depths=[2] * 4,
            num_heads=[1] * 4), img_size=64, window_size=[2] * 4), 64),
    'MLP-Mixer': Network(classifier(24, dict(POOL, dim=1), type='MlpMixer', img_size=32, patch_size=8,
            arch=dict(embed_dims=24, num_layers=2, tokens_mlp_dims=8, channels_mlp_dims=32)), sample=True),
    'MobileViT': Network(classifier(320, type='MobileViT', arch='xx_small')),
    'MViT': Network(classifier(64, type='MViT', arch=dict(embed_dims=8, num_layers=4, num_heads=1,
            downscale_indices=[1, 2, 3]), img_size=32)),
    'PoolFormer': Network(classifier(32, type='PoolFormer', arch=dict(layers=[1] * 4, embed_dims=[8, 16, 24,
            32], mlp_ratios=[2] * 4, layer_scale_init_value=1e-5)), 64),
    'RevViT': Network(transformer(32, type='RevVisionTransformer', **VIT)),
    'SwinTransformer': Network(classifier(64, type='SwinTransformer', img_size=32, window_size=1,
            arch=SWIN)),
    'SwinTransformerV2': Network(classifier(64, type='SwinTransformerV2', img_size=64, window_size=2,
            arch=dict(SWIN, extra_norm_every_n_blocks=0)), 64, sample=True),
    'T2T-ViT': Network(transformer(16, type='T2T_ViT', img_size=32, embed_dims=16, t2t_cfg=dict(token_dims=8,
            use_performer=False), num_layers=2, layer_cfgs=dict(num_heads=2, feedforward_channels=32))),
    'TinyViT': Network(classifier(32, None, type='TinyViT', img_size=(64, 64), arch=dict(channels=[8, 8, 16,
            32], num_heads=[1, 1, 2, 2], depths=[1, 1, 1, 1]), window_size=[2] * 4,
            gap_before_final_norm=True), 64),
    'TNT': Network(transformer(16, 'LinearClsHead', type='TNT', img_size=32, patch_size=8,
            arch=dict(embed_dims_outer=16, embed_dims_inner=4, num_layers=2, num_heads_outer=2,
            num_heads_inner=2))),
    'Twins-PCPVT': Network(classifier(32, type='PCPVT', arch=dict(embed_dims=[8, 8, 16, 32], depths=[1] * 4,
            num_heads=[1] * 4, patch_sizes=[4, 2, 2, 2], strides=[4, 2, 2, 2], mlp_ratios=[2] * 4,
            sr_ratios=[8, 4, 2, 1]))),
    'Twins-SVT': Network(classifier(32, type='SVT', arch=dict(embed_dims=[8, 8, 16, 32], depths=[1] * 4,
            num_heads=[1] * 4, patch_sizes=[4, 2, 2, 2], strides=[4, 2, 2, 2], mlp_ratios=[2] * 4,
            sr_ratios=[8, 4, 2, 1], window_sizes=[2] * 4))),
    'VisionTransformer': Network(transformer(16, type='VisionTransformer', **VIT), sample=True),
    'ViT-SAM': Network(classifier(16, type='ViTSAM', out_channels=16, window_size=2, use_rel_pos=True,
            arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32,
            global_attn_indexes=[1]), img_size=32, patch_size=8)),
    'XCiT': Network(classifier(16, None, type='XCiT', patch_size=8, embed_dims=16, depth=1, num_heads=2,
            cls_attn_layers=1), sample=True),
    # ------------------------------------------------------------ two logits
    'Conformer': Network(dict(type='ImageClassifier', backbone=dict(type='Conformer', patch_size=16,
            base_channels=8, drop_path_rate=0, arch=dict(embed_dims=24, channel_ratio=1, num_heads=2,
            depths=3)), head=dict(type='ConformerHead', num_classes=10, in_channels=[32, 24])), 64),
    'DeiT, distilled': Network(transformer(16, 'DeiTClsHead', type='DistilledVisionTransformer',
            out_type='cls_token', **VIT), sample=True),
    'EfficientFormer': Network(classifier(16, dict(POOL, dim=1), dict(type='EfficientFormerClsHead',
            distillation=True), type='EfficientFormer', drop_path_rate=0, arch=dict(layers=[1, 1, 1, 2],
            embed_dims=[8, 8, 16, 16], downsamples=[False, True, True, True], vit_num=1)), 224),
    'InceptionV3, auxiliary head': Network(dict(type='ImageClassifier', backbone=dict(type='InceptionV3',
            num_classes=10, aux_logits=True), head=dict(type='ckd_mm.AuxiliaryClsHead', loss=LOSS)), 299),
    'LeViT': Network(classifier(384, head=dict(type='LeViTClsHead', distillation=True), type='LeViT',
            arch='128s', img_size=64, out_indices=(2, ), drop_path_rate=0), 64),
    # ------------------------------------------------------------ of other packages
    'TimmClassifier(resnet18)': Network(dict(type='TimmClassifier', model_name='resnet18', num_classes=10),
            package='timm'),
    'TimmClassifier(vit_tiny)': Network(dict(type='TimmClassifier', model_name='vit_tiny_patch16_224',
            num_classes=10, img_size=32), package='timm'),
    'TimmClassifier(swin_tiny)': Network(dict(type='TimmClassifier',
            model_name='swin_tiny_patch4_window7_224', num_classes=10, img_size=64), 64, package='timm'),
    'TIMMBackbone': Network(classifier(512, type='TIMMBackbone', model_name='resnet18', features_only=True),
            package='timm'),
    'a classifier without head, as TimmClassifier': Network(dict(type='Headless', num_classes=10),
            sample=True),
    # ------------------------------------------------------------ heads
    'MultiLabelLinearClsHead': Network(dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18),
            neck=POOL, head=dict(type='MultiLabelLinearClsHead', num_classes=10, in_channels=512)),
            refused=SEVERAL, sample=True),
    'LeNet5': Network(dict(type='ImageClassifier', backbone=dict(type='LeNet5', num_classes=10),
            head=dict(type='ClsHead', loss=LOSS)), refused=GREY),
    'LinearClsHead, binary cross-entropy': Network(classifier(512, head=dict(loss=dict(LOSS,
            use_sigmoid=True)), type='ResNet', depth=18)),
    'LinearClsHead, soft labels': Network(classifier(512, head=dict(loss=dict(LOSS, use_soft=True)),
            type='ResNet', depth=18)),
    'ArcFaceClsHead': Network(classifier(512, head=dict(type='ArcFaceClsHead'), type='ResNet', depth=18)),
}


def table() -> str:
    """The table of docs/networks.md."""
    lines = ['| network | here |', '|---|---|']
    for name, row in sorted(LEDGER.items(), key=lambda item: item[0].lower()):
        outcome = 'trained' if row.refused is None else f'refused: {row.refused}'
        lines.append(f'| {name} | {outcome} |')
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    docs = Path(__file__).parents[2] / 'docs' / 'networks.md'
    text = docs.read_text()
    start = text.index('| network |')
    docs.write_text(text[:start] + table())
