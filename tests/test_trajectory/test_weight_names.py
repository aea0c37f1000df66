"""Weights of other packages: mmpretrain's network computes what the original does."""

import pytest
import torch
import torchvision
from mmpretrain.apis.model import ModelHub
from mmpretrain.registry import MODELS
from torch import nn
from torch.testing import assert_close

from ckd_mm.errors import SnapshotError
from ckd_mm.trajectory import Trajectory
from ckd_mm.trajectory.weight_names import renamed

from ..conftest import resnet
from ..helpers import network, vision_transformer

ALEXNET = dict(type='ImageClassifier', backbone=dict(type='AlexNet', num_classes=1000),
               head=dict(type='ClsHead', loss=dict(type='CrossEntropyLoss')))


def original(name: str) -> nn.Module:
    torch.manual_seed(0)
    built = getattr(torchvision.models, name)()
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return built.eval()


@pytest.mark.parametrize('theirs, ours, tolerance', [
    ('resnet18', 'resnet18_8xb32_in1k', 0), ('resnext50_32x4d', 'resnext50-32x4d_8xb32_in1k', 0),
    ('vgg11_bn', 'vgg11bn_8xb32_in1k', 0), ('mobilenet_v2', 'mobilenet-v2_8xb32_in1k', 0),
    ('shufflenet_v2_x1_0', 'shufflenet-v2-1x_16xb64_in1k', 0), ('alexnet', ALEXNET, 0),
    ('densenet121', 'densenet121_3rdparty_in1k', 0), ('convnext_tiny', 'convnext-tiny_32xb128_in1k', 1e-5),
    ('regnet_x_800mf', 'regnetx-800mf_8xb128_in1k', 0), ('vit_b_16', 'vit-base-p16_32xb128-mae_in1k', 1e-5),
    ('efficientnet_b0', 'efficientnet-b0_3rdparty_8xb32_in1k', 1e-3)])  # another epsilon in BatchNorm
def test_torchvisions_networks(tmp_path, theirs, ours, tolerance):
    """The file as torchvision's documentation saves it: a bare state dict."""
    theirs, images = original(theirs), torch.randn(2, 3, 224, 224)
    torch.save(theirs.state_dict(), tmp_path / 'model.pth')
    config = ours if isinstance(ours, dict) else dict(ModelHub.get(ours).config.model)
    config.pop('train_cfg', None)
    config.pop('init_cfg', None)
    teacher = Trajectory.open(tmp_path / 'model.pth', config).last.build()
    found = teacher(images)
    assert_close(found[-1] if isinstance(found, tuple) else found, theirs(images), rtol=0, atol=tolerance)


@pytest.mark.parametrize('prefix', ['', 'model.', 'architecture.', 'module.student.'])
def test_prefixes(tmp_path, prefix):
    there = network(resnet(2), 1)
    torch.save(dict(state_dict={prefix + name: value for name, value in there.state_dict().items()}),
               tmp_path / 'best.pth')
    images = torch.randn(3, 3, 8, 8)
    assert torch.equal(Trajectory.open(tmp_path / 'best.pth', resnet(2)).last.build()(images), there(images))


def test_timms_vision_transformers():
    """By their published names."""
    wanted = MODELS.build(vision_transformer()).state_dict()
    theirs = {name.removeprefix('backbone.').replace('patch_embed.projection', 'patch_embed.proj')
              .replace('layers.0.ln', 'blocks.0.norm').replace('layers.0.', 'blocks.0.')
              .replace('ffn.blocks.0.0', 'mlp.fc1').replace('ffn.layers.0.0', 'mlp.fc1')
              .replace('ffn.layers.1', 'mlp.fc2').replace('head.layers.head', 'head'): value
              for name, value in wanted.items()}
    found = renamed(dict(sorted(theirs.items())), wanted)
    assert found.keys() == wanted.keys() and all(found[name] is wanted[name] for name in wanted)


@pytest.mark.parametrize('change, told', [
    (lambda weights: weights.pop('layer1.0.conv1.weight'),
     ': 1 weights missing, first: backbone.layer1.0.conv1.weight. Give'),
    (lambda weights: weights.update(new=torch.zeros(1)), ': 1 weights unknown, first: backbone.new. Give'),
    (lambda weights: weights.update({'fc.bias': torch.zeros(7)}),
     r': 1 weights of another shape, first: head.fc.bias is \(7,\), expected \(1000,\). Give')])
def test_nothing_is_half_loaded(tmp_path, change, told):
    weights = original('resnet18').state_dict()
    change(weights)
    torch.save(weights, tmp_path / 'model.pth')
    config = dict(ModelHub.get('resnet18_8xb32_in1k').config.model)
    with pytest.raises(SnapshotError, match=told):
        Trajectory.open(tmp_path / 'model.pth', config).last.build()


def test_two_networks_of_other_shapes_are_not_matched_by_order():
    weights, wanted = network(resnet(2), 1).state_dict(), network(resnet(2, channels=8), 1).state_dict()
    assert renamed(weights, wanted) == weights
