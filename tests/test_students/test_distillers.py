"""The distillers of configs/_base_/distillers: each loss against its formula, on networks of their kind."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmpretrain.registry import MODELS as CLASSIFIERS
from mmpretrain.structures import DataSample
from torch.testing import assert_close

from ckd_mm.hooks import build_schedule
from ckd_mm.registry import MODELS
from ckd_mm.stages.distiller_check import check_distiller
from ckd_mm.students import CheckpointDistill, HintTraining
from ckd_mm.teachers import SnapshotEnsemble
from ckd_mm.trajectory import write_snapshot

from ..conftest import ROOT, STATISTICS
from ..helpers import network

BASE = ROOT / 'configs' / '_base_'


def base(name: str) -> Config:
    return Config.fromfile(BASE / 'distillers' / f'{name}.py')


def classifier(backbone: dict, channels: int) -> dict:
    return dict(type='ImageClassifier', backbone=backbone, neck=dict(type='GlobalAveragePooling'),
                data_preprocessor=dict(STATISTICS),
                head=dict(type='LinearClsHead', num_classes=10, in_channels=channels))


def cifar(depth: int) -> dict:
    return classifier(dict(type='ckd_mm.CIFARResNet', depth=depth), 64)


def wide(factor: int) -> dict:
    return classifier(dict(type='ckd_mm.WideResNet', depth=10, widen_factor=factor), 64 * factor)


def imagenet(depth: int) -> dict:
    return classifier(dict(type='ResNet', depth=depth, stem_channels=8, base_channels=4, style='pytorch'),
                      32 if depth < 50 else 128)


def cifar34() -> dict:
    model = Config.fromfile(BASE / 'models' / 'resnet34_cifar10.py').model.to_dict()
    return dict(model, data_preprocessor=dict(STATISTICS))


def cohort(tmp_path, model: dict) -> SnapshotEnsemble:
    file = write_snapshot(tmp_path / 'teacher.pth', network(model, 1).state_dict(), epoch=1, iteration=1,
                          lr=None, model=model, classes=None).file
    return SnapshotEnsemble([str(file)])


def data(size: int) -> dict:
    generator = torch.Generator().manual_seed(0)
    return dict(inputs=torch.randn(2, 3, size, size, generator=generator),
                data_samples=[DataSample().set_gt_label(i) for i in (3, 7)])


def outputs(net, names, inputs):
    """What the modules give, without any distiller."""
    seen = {}
    for name in names:
        net.get_submodule(name).register_forward_hook(
            lambda module, given, output, name=name: seen.update({name: output}))
    net(inputs, mode='tensor')
    return [seen[name] for name in names]


@pytest.mark.parametrize('name, student, teacher, size, stages', [
    ('attention_transfer_cifar', cifar(8), cifar(14), 16, 3),
    ('attention_transfer_cifar', wide(1), wide(2), 16, 3),
    ('attention_transfer_imagenet', imagenet(18), imagenet(50), 64, 4)],
    ids=['resnet', 'wide resnet', 'imagenet'])
def test_attention_transfer_is_the_formula(tmp_path, name, student, teacher, size, stages):
    config = base(name)
    settings = {key: value for key, value in config.distill.items()
                if key not in ('tau', 'aggregation', 'stop_epoch')}
    assert {**config.distill, 'distiller': 0} == dict(tau=4.0, aggregation='prob', ce_weight=0.9,
                                                      kd_weight=0.1, stop_epoch=None, distiller=0)
    teachers = cohort(tmp_path, teacher)
    check_distiller(CLASSIFIERS.build(copy.deepcopy(student)), teachers, settings['distiller'],
                    data(size)['inputs'])
    model = CheckpointDistill(student, teachers, **settings).eval()
    losses = model.loss(**data(size))
    assert set(losses) == {'loss_ce', 'loss_kd', *(f'loss_at_layer{stage}' for stage in range(1, stages + 1))}
    layers = [f'backbone.layer{stage}' for stage in range(1, stages + 1)]
    own = outputs(copy.deepcopy(model.student), layers, data(size)['inputs'])
    hints = outputs(network(teacher, 1), layers, data(size)['inputs'])
    for stage, (left, right) in enumerate(zip(own, hints), start=1):
        maps = []
        for features in (left, right):
            squares = (features**2).sum(dim=1).flatten(1)  # whether sum or mean: their length will be 1
            maps.append(squares / squares.square().sum(dim=1, keepdim=True).sqrt())
        # their code's beta = 1000: the mean of the squares over elements of the map and images
        expected = 1000 * (maps[0] - maps[1]).square().mean()
        assert_close(losses[f'loss_at_layer{stage}'], expected, rtol=1e-4, atol=1e-6)
        assert losses[f'loss_at_layer{stage}'] > 0.01


@pytest.mark.parametrize('name, teacher', [('fitnets_hint_cifar', cifar(14)),
                                           ('fitnets_hint_resnet34_cifar', cifar34())])
def test_the_hint_is_the_mean_squared_error_of_the_middle_stages(tmp_path, name, teacher):
    hint = base(name).hint
    assert set(hint) == {'train_cfg', 'distiller'} and hint.train_cfg == dict(max_epochs=40)
    teachers, student = cohort(tmp_path, teacher), cifar(8)
    assert check_distiller(CLASSIFIERS.build(copy.deepcopy(student)), teachers, hint.distiller,
                           data(16)['inputs'], key='hint.distiller') == 'loss_hint (HintLoss)'
    model = HintTraining(student, teachers, hint.distiller).eval()
    losses = model.loss(**data(16))
    own, = outputs(copy.deepcopy(model.student), ['backbone.layer2'], data(16)['inputs'])
    hinted, = outputs(network(teacher, 1), ['backbone.layer2'], data(16)['inputs'])
    convolution = model.distiller.parts['loss_hint'].regressor.conv
    assert own.shape == (2, 32, 8, 8) and convolution.weight.shape == (hinted.shape[1], 32, 1, 1)
    regressed = torch.einsum('oc,nchw->nohw', convolution.weight[:, :, 0, 0], own)
    regressed += convolution.bias[:, None, None]
    assert_close(losses, dict(loss_hint=F.mse_loss(regressed.clamp(min=0), hinted)))
    learning = {name.split('.')[1] for name, parameter in model.student.named_parameters()
                if parameter.requires_grad}
    assert learning == {'conv1', 'bn1', 'layer1', 'layer2'}


def test_decoupled_kd_builds_with_the_authors_settings(tmp_path):
    config = base('decoupled_kd').distill
    loss = MODELS.build(config.loss)
    assert (loss.tau, loss.target_weight, loss.non_target_weight) == (4.0, 1.0, 8.0)
    model = CheckpointDistill(cifar(8), cohort(tmp_path, cifar(14)), kd_loss=config.loss,
                              ce_weight=config.ce_weight)
    assert set(model.loss(**data(16))) == {'loss_ce', 'loss_kd'}
    hook = build_schedule(config.schedule)
    assert (hook.begin, hook.end, hook.start_value, hook.end_value, hook.stops) == (0, 20, 0.0, 1.0, False)
