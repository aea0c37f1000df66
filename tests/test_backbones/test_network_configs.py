"""The networks in configs/_base_/models: sizes as the papers print them, and logits of the right shape."""

import re

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from ..conftest import ROOT

FOLDER = ROOT / 'configs' / '_base_' / 'models'


def build(name: str):
    return MODELS.build(Config.fromfile(FOLDER / f'{name}.py').model)


def size(name: str) -> int:
    return sum(parameter.numel() for parameter in build(name).parameters())


# DIH, Table 1, millions, CIFAR-100: two digits, some rounded (1.7366 as 1.74), some cut (9.2773 as 9.27)
@pytest.mark.parametrize(('name', 'printed', 'exact'), [
    ('dih_resnet8_cifar100', 0.08, 83892),
    ('dih_resnet14_cifar100', 0.18, 181108),
    ('dih_resnet20_cifar100', 0.28, 278324),
    ('dih_resnet110_cifar100', 1.74, 1736564),
    # 9 * (3*64 + 64*128 + 128*256 + 256*256 + 256*512 + 3*512*512) + 3 * (64 + 128 + 2*256 + 4*512) + 51300
    ('vgg11_cifar100', 9.27, 9277284),
    ('resnet18_cifar100', 11.22, 11220132),
    ('resnet34_cifar100', 21.32, 21328292),
])
def test_networks_of_dih(name, printed, exact):
    assert size(name) == exact and abs(exact / 1e6 - printed) < 0.01


# ESKD, Table 4, millions, CIFAR-10, cut after two digits
@pytest.mark.parametrize(('name', 'printed'), [('resnet8_cifar10', 0.07), ('resnet14_cifar10', 0.17),
                                               ('wrn16-2_cifar10', 0.69)])
def test_networks_of_eskd(name, printed):
    assert int(size(name) / 1e4) / 100 == printed


def wide_resnet_size(depth: int, width: int, classes: int) -> int:
    blocks, channels, total = (depth - 4) // 6, 16, 3 * 9 * 16
    for wide in (16 * width, 32 * width, 64 * width):
        for _ in range(blocks):
            shortcut = channels * wide if channels != wide else 0
            total += 2 * channels + 9 * channels * wide + 2 * wide + 9 * wide * wide + shortcut
            channels = wide
    return total + 2 * channels + (channels + 1) * classes


@pytest.mark.parametrize('name', sorted(file.stem for file in FOLDER.glob('wrn*_cifar10.py')))
def test_wide_resnets_have_the_name_s_depth_and_width(name):
    depth, width = map(int, re.fullmatch(r'wrn(\d+)-(\d+)_cifar10', name).groups())
    assert size(name) == wide_resnet_size(depth, width, 10)


def test_there_is_every_wide_resnet_of_eskd():
    assert {file.stem for file in FOLDER.glob('wrn*_cifar10.py')} >= {
        f'wrn{depth}-{width}_cifar10' for depth, widths in ((16, (1, 2, 3, 4, 6, 8)), (28, (1, 3, 4, 6, 8)))
        for width in widths}


# torchvision's networks, which the ImageNet experiments take
@pytest.mark.parametrize(('name', 'exact'), [
    ('resnet18', 11689512), ('resnet34', 21797672), ('resnet50', 25557032), ('resnet152', 60192808)])
def test_networks_of_imagenet(name, exact):
    assert size(name) == exact


def test_vgg_ends_each_stage_in_a_max_pool():
    """DIH mounts its heads behind the first four."""
    config = Config.fromfile(FOLDER / 'vgg11_cifar10.py').model.backbone
    maps = MODELS.build(dict(config, out_indices=(0, 1, 2, 3, 4)))(torch.zeros(2, 3, 32, 32))
    assert [found.shape[1:] for found in maps] == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2),
                                                   (512, 1, 1)]
