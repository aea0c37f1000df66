"""The CIFAR networks: sizes against published numbers, maps, values against second implementations."""

import math

import pytest
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from ckd_mm.backbones import CIFARResNet, DenseNetCIFAR, MobileNetV2CIFAR, WideResNet
from ckd_mm.backbones.cifar_resnet import PadShortcut
from ckd_mm.errors import ConfigError

from ..helpers import network


def classifier(backbone: str, channels: int, classes: int = 100, **options) -> dict:
    head = dict(type='LinearClsHead', num_classes=classes, in_channels=channels)
    return dict(type='ImageClassifier', backbone=dict(type=f'ckd_mm.{backbone}', **options),
                neck=dict(type='GlobalAveragePooling'), head=head)


def parameters(model: dict | nn.Module) -> int:
    model = MODELS.build(model) if isinstance(model, dict) else model
    return sum(parameter.numel() for parameter in model.parameters())


# ---------------------------------------------------------------- sizes
# RepDistiller's networks (github.com/HobbitLong/RepDistiller, models/) with 100 classes
@pytest.mark.parametrize(('model', 'expected'), [
    (classifier('CIFARResNet', 64, depth=20), 278324),
    (classifier('CIFARResNet', 64, depth=32), 472756),
    (classifier('CIFARResNet', 64, depth=56), 861620),
    (classifier('CIFARResNet', 64, depth=110), 1736564),
    (classifier('CIFARResNet', 256, depth=8, stem_channels=32, base_channels=64), 1233540),
    (classifier('CIFARResNet', 256, depth=32, stem_channels=32, base_channels=64), 7433860),
    (classifier('WideResNet', 128, depth=40, widen_factor=2), 2255156),
    (classifier('WideResNet', 64, depth=40, widen_factor=1), 569780),
    (classifier('WideResNet', 128, depth=16, widen_factor=2), 703284),
    (classifier('MobileNetV2CIFAR', 1280, widen_factor=0.5), 812836),
])
def test_size_is_that_of_the_distillation_literature(model, expected):
    assert parameters(model) == expected


@pytest.mark.parametrize(('model', 'millions', 'digits'), [
    # He et al., arXiv 1512.03385, Table 6, CIFAR-10, which has shortcuts without parameters
    (classifier('CIFARResNet', 64, 10, depth=20, shortcut='A'), 0.27, 2),
    (classifier('CIFARResNet', 64, 10, depth=32, shortcut='A'), 0.46, 2),
    (classifier('CIFARResNet', 64, 10, depth=44, shortcut='A'), 0.66, 2),
    (classifier('CIFARResNet', 64, 10, depth=56, shortcut='A'), 0.85, 2),
    (classifier('CIFARResNet', 64, 10, depth=110, shortcut='A'), 1.7, 1),
    (classifier('CIFARResNet', 64, 10, depth=1202, shortcut='A'), 19.4, 1),
    # Zagoruyko and Komodakis, arXiv 1605.07146, Tables 4 and 5, CIFAR-10
    (classifier('WideResNet', 64, 10, depth=40, widen_factor=1), 0.6, 1),
    (classifier('WideResNet', 128, 10, depth=40, widen_factor=2), 2.2, 1),
    (classifier('WideResNet', 512, 10, depth=16, widen_factor=8), 11.0, 1),
    (classifier('WideResNet', 640, 10, depth=28, widen_factor=10), 36.5, 1),
    # Huang et al., arXiv 1608.06993, Table 2, CIFAR-10
    (classifier('DenseNetCIFAR', 448, 10, depth=40, growth_rate=12), 1.0, 1),
    (classifier('DenseNetCIFAR', 1168, 10, depth=100, growth_rate=12), 7.0, 1),
    (classifier('DenseNetCIFAR', 2320, 10, depth=100, growth_rate=24), 27.2, 1),
])
def test_size_is_that_of_the_original_papers(model, millions, digits):
    assert round(parameters(model) / 1e6, digits) == millions


# ---------------------------------------------------------------- maps
MAPS = [
    (CIFARResNet, dict(depth=8), [(16, 1), (32, 2), (64, 4)]),
    (CIFARResNet, dict(depth=8, shortcut='A', in_channels=1), [(16, 1), (32, 2), (64, 4)]),
    (WideResNet, dict(depth=10, widen_factor=2), [(32, 1), (64, 2), (128, 4)]),
    (WideResNet, dict(depth=10, widen_factor=1, in_channels=1), [(16, 1), (32, 2), (64, 4)]),
    (DenseNetCIFAR, dict(depth=10, growth_rate=6), [(28, 1), (40, 2), (52, 4)]),
    (DenseNetCIFAR, dict(depth=7, growth_rate=4, in_channels=1), [(20, 1), (24, 2), (28, 4)]),
    (MobileNetV2CIFAR, dict(widen_factor=0.75),
     [(12, 2), (18, 2), (24, 4), (48, 8), (72, 8), (120, 16), (240, 16), (1280, 16)]),
]


@pytest.mark.parametrize(('kind', 'settings', 'maps'), MAPS)
@pytest.mark.parametrize('size', [32, 64])
def test_maps_have_the_stages_channels_and_strides(kind, settings, maps, size):
    torch.manual_seed(0)
    backbone = kind(out_indices=list(range(len(maps))), **settings)
    backbone.eval()  # returns None in mmpretrain's backbones
    images = torch.randn(2, settings.get('in_channels', 3), size, size)
    every = backbone(images)
    assert [found.shape for found in every] == [(2, channels, size // stride, size // stride)
                                                for channels, stride in maps]
    chosen = kind(out_indices=(0, len(maps) - 1), **settings)
    chosen.eval()
    chosen.load_state_dict(backbone.state_dict())
    first, last = chosen(images)
    assert torch.equal(first, every[0]) and torch.equal(last, every[-1])
    assert last.min() == 0  # ends in a ReLU


@pytest.mark.parametrize(('kind', 'settings', 'maps'), MAPS)
def test_gradient_reaches_every_weight(kind, settings, maps):
    torch.manual_seed(0)
    model = MODELS.build(classifier(kind.__name__, maps[-1][0], classes=10, **settings))
    model.init_weights()
    samples = [DataSample().set_gt_label(label) for label in range(4)]
    model(torch.randn(4, settings.get('in_channels', 3), 32, 32), samples, mode='loss')['loss'].backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.parameters())


@pytest.mark.parametrize(('kind', 'settings', 'maps'), MAPS)
def test_weights_begin_as_in_the_original_code(kind, settings, maps):
    """Convolutions are normal with variance 2 / (area x output channels), every BatchNorm the identity."""
    torch.manual_seed(0)
    backbone = kind(**settings)
    backbone.init_weights()
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight
            expected = math.sqrt(2 / (weight[0, 0].numel() * weight.shape[0]))
            assert weight.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * weight.numel())), name
            assert module.bias is None
        elif isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all()) and bool((module.bias == 0).all()), name


# ---------------------------------------------------------------- values; ResNet B and WRN: test_convert.py
def test_shortcut_a_by_hand():
    """Two channels of 3x3 become five of 2x2: one zero channel in front, two behind, every second pixel."""
    x = torch.arange(18.).view(1, 2, 3, 3)
    zero = [[0., 0.], [0., 0.]]
    assert PadShortcut(new_channels=3, stride=2)(x)[0].tolist() == [zero, [[0., 2.], [6., 8.]],
                                                                    [[9., 11.], [15., 17.]], zero, zero]


class Dense(nn.Sequential):

    def forward(self, x):
        return torch.cat([x, super().forward(x)], dim=1)


def plain_densenet(layers: int, growth: int, classes: int) -> nn.Sequential:
    """The same network from torch's layers alone."""
    modules, channels = [nn.Conv2d(3, 16, 3, padding=1, bias=False)], 16
    for block in range(3):
        for _ in range(layers):
            modules.append(Dense(nn.BatchNorm2d(channels), nn.ReLU(),
                                 nn.Conv2d(channels, growth, 3, padding=1, bias=False)))
            channels += growth
        modules += [nn.BatchNorm2d(channels), nn.ReLU()]
        if block < 2:
            modules += [nn.Conv2d(channels, channels, 1, bias=False), nn.AvgPool2d(2)]
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


@torch.no_grad()
def assert_same_logits(ours: nn.Module, theirs: nn.Module, weights) -> None:
    """With our weights in the order of their layers."""
    theirs.load_state_dict(dict(zip(theirs.state_dict(), weights, strict=True)))
    images = torch.randn(3, 3, 32, 32)
    logits = ours(images)
    assert logits.std() > 1e-3
    expected = theirs.eval()(images)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5 * logits.abs().max().item())


@pytest.mark.parametrize(('layers', 'growth', 'classes'), [(1, 4, 10), (12, 12, 10), (12, 24, 100)])
def test_densenet_has_no_other_weights(layers, growth, classes):
    channels, depth = 16 + 3 * layers * growth, 3 * layers + 4
    model = classifier('DenseNetCIFAR', channels, classes, depth=depth, growth_rate=growth)
    assert parameters(model) == parameters(plain_densenet(layers, growth, classes))


def test_densenet_computes_what_its_definition_says():
    ours = network(classifier('DenseNetCIFAR', 16 + 9 * 5, 10, depth=13, growth_rate=5), seed=0)
    weights = ours.state_dict()
    order = ['conv1', 'layer1', 'transition1', 'layer2', 'transition2', 'layer3', 'bn']  # as images pass them
    keys = [key for part in order for key in weights if key.startswith(f'backbone.{part}.')]
    keys += [key for key in weights if key.startswith('head.')]
    assert_same_logits(ours, plain_densenet(3, 5, 10), [weights[key] for key in keys])


class Residual(nn.Sequential):

    def forward(self, x):
        return x + super().forward(x)


def plain_mobilenet(width: float, classes: int) -> nn.Sequential:
    """The same network from torch's layers alone, one convolution, BatchNorm and ReLU after the other."""

    def unit(before, after, kernel=1, stride=1, groups=1, relu=True):
        layers = [nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False),
                  nn.BatchNorm2d(after)]
        return layers + [nn.ReLU()] * relu

    channels = int(32 * width)
    layers = unit(3, channels, 3, 2)
    for expansion, after, blocks, stride in ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2),
                                             (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
        for block in range(blocks):
            hidden, step, new = expansion * channels, stride if block == 0 else 1, int(after * width)
            body = unit(channels, hidden) + unit(hidden, hidden, 3, step, hidden)
            body += unit(hidden, new, relu=False)
            layers.append((Residual if step == 1 and new == channels else nn.Sequential)(*body))
            channels = new
    last = max(1280, int(1280 * width))
    return nn.Sequential(*layers, *unit(channels, last), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(last, classes))


@pytest.mark.parametrize('width', [0.35, 0.5, 0.75, 1.0, 1.4])
def test_mobilenet_cuts_its_channels(width):
    """CheckpointKD's width of 0.75 gives 18 channels, mmpretrain's rounding to multiples of 8 24."""
    model = classifier('MobileNetV2CIFAR', max(1280, int(1280 * width)), widen_factor=width)
    assert parameters(model) == parameters(plain_mobilenet(width, 100))


def test_mobilenet_computes_what_its_definition_says():
    ours = network(classifier('MobileNetV2CIFAR', 1280, 10, widen_factor=0.25), seed=0)
    assert_same_logits(ours, plain_mobilenet(0.25, 10), ours.state_dict().values())


# ---------------------------------------------------------------- bad settings
@pytest.mark.parametrize(('kind', 'settings', 'message'), [
    (CIFARResNet, dict(depth=18), r'depth=18 should be 6n\+2, from 8 to 1202'),
    (CIFARResNet, dict(depth=2), r'depth=2 should be'),
    (CIFARResNet, dict(depth='20'), r"depth='20' should be"),
    (CIFARResNet, dict(depth=20, shortcut='C'), r"shortcut='C' should be one of \('A', 'B'\)"),
    (CIFARResNet, dict(depth=20, shortcut='A', stem_channels=32),
     r"shortcut='A' adds channels: base_channels=16 should"),
    (CIFARResNet, dict(depth=20, base_channels=0), r'base_channels=0 should be a whole number'),
    (CIFARResNet, dict(depth=20, out_indices=(3, )),
     r'out_indices=\(3,\) should list one or more of the stages 0 to 2'),
    (CIFARResNet, dict(depth=20, out_indices=2), r'out_indices=2 should list'),
    (WideResNet, dict(depth=4, widen_factor=1), r'depth=4 should be 6n\+4, at least 10'),
    (WideResNet, dict(depth=20, widen_factor=1), r'depth=20 should be 6n\+4'),
    (WideResNet, dict(depth=16, widen_factor=1.5), r'widen_factor=1.5 should be a whole number, at least 1'),
    (WideResNet, dict(depth=16, widen_factor=0), r'widen_factor=0 should be'),
    (WideResNet, dict(depth=16, widen_factor=1, out_indices=(2, 0)),
     r'out_indices=\(2, 0\) should list .* in rising order'),
    (WideResNet, dict(depth=16, widen_factor=1, out_indices=[]), r'out_indices=\[\] should list'),
    (DenseNetCIFAR, dict(depth=41, growth_rate=12), r'depth=41 should be 3n\+4, at least 7'),
    (DenseNetCIFAR, dict(depth=4, growth_rate=12), r'depth=4 should be 3n\+4'),
    (DenseNetCIFAR, dict(depth=40, growth_rate=0), r'growth_rate=0 should be a whole number, at least 1'),
    (DenseNetCIFAR, dict(depth=40, growth_rate=12, out_indices=(0, 3)), r'out_indices=\(0, 3\) should list'),
    (MobileNetV2CIFAR, dict(widen_factor=0), r'widen_factor=0 should be a finite number, at least 0.0625'),
    (MobileNetV2CIFAR, dict(widen_factor='0.75'), r"widen_factor='0.75' should be"),
    (MobileNetV2CIFAR, dict(widen_factor=float('nan')), r'widen_factor=nan should be'),
    (MobileNetV2CIFAR, dict(out_indices=(-1, )), r'out_indices=\(-1,\) should list .* stages 0 to 7'),
])
def test_bad_settings_are_one_sentence(kind, settings, message):
    with pytest.raises(ConfigError, match=f'^{message}'):
        kind(**settings)
