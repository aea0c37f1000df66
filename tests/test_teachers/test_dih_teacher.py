"""A teacher and its heads as a cohort: their logits, what runs, and bad input."""

import copy
import math

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS as CLASSIFIERS
from scipy.special import softmax
from torch.testing import assert_close

from ckd_mm.compat import versions
from ckd_mm.errors import ConfigError, DivergedError, SnapshotError
from ckd_mm.registry import MODELS
from ckd_mm.students import CheckpointDistill
from ckd_mm.teachers import DIHTeacher, HeadTraining, SnapshotEnsemble
from ckd_mm.teachers.feature_network import FeatureNetwork, weights_sha256
from ckd_mm.teachers.head_file import read_heads
from ckd_mm.trajectory import Snapshot

from ..conftest import STATISTICS, resnet
from ..helpers import (
    DIGITS,
    assert_same_weights,
    batch,
    network,
    trajectory,
    vision_transformer,
    with_statistics,
)

IMAGES = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(9))
TEACHER, STUDENT = with_statistics(resnet(3)), with_statistics(resnet(1))


def heads_on(folder, out_indices=(0, 1, 2), model=TEACHER, **settings):
    """A teacher on disk with heads of random weights: its snapshot, and their file."""
    snapshot = trajectory(folder / 'run', epochs=[2], model=model).last
    training = HeadTraining(snapshot, out_indices, (3, 8, 8), **settings)
    generator = torch.Generator().manual_seed(1)
    for parameter in training.heads.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / 4)
    return snapshot, training.write(folder / 'heads.pth')


def cohort_of(folder, use=None, **settings) -> DIHTeacher:
    snapshot, heads = heads_on(folder, **settings)
    return DIHTeacher(snapshot, heads.file, use)


@torch.no_grad()
def numpy_logits(folder, images: torch.Tensor) -> np.ndarray:
    """(4, N, 10) of the heads 0, 1, 2 and the teacher, from the files and the network's layers alone."""
    weights = torch.load(folder / 'heads.pth', weights_only=True)['state_dict']
    teacher, logits = network(TEACHER, 2), []
    features = teacher.backbone.relu(teacher.backbone.norm1(teacher.backbone.conv1(images)))
    for index in range(3):
        features = getattr(teacher.backbone, f'layer{index + 1}')(features)
        weight, bias = (weights[f'heads.{index}.fc.{part}'].numpy() for part in ('weight', 'bias'))
        logits.append(features.flatten(1).numpy() @ weight.T + bias)
    return np.stack([*logits, teacher(images, mode='tensor').numpy()])


# ---------------------------------------------------------------- logits
def test_logits_are_linear_in_the_maps_and_the_teachers_are_its_own(tmp_path):
    """Eq. 3, heads from shallow to deep, then the teacher, bit for bit those of the plain network."""
    cohort = MODELS.build(
        dict(type='ckd_mm.DIHTeacher', snapshot=dict(trajectory=str(tmp_path / 'run'), epoch=2),
             heads=str(heads_on(tmp_path)[1].file)))
    logits = cohort(IMAGES)
    assert logits.shape == (4, 5, 10) and cohort.classes == DIGITS
    assert cohort.member_names == ['head 0', 'head 1', 'head 2', 'teacher']
    np.testing.assert_allclose(logits.numpy(), numpy_logits(tmp_path, IMAGES), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(logits[-1], network(TEACHER, 2)(IMAGES, mode='tensor'))
    assert torch.equal(cohort(IMAGES, mode='loss'), logits)
    scores = torch.stack([sample.pred_score for sample in cohort(IMAGES, mode='predict')])
    np.testing.assert_allclose(scores.numpy(), softmax(numpy_logits(tmp_path, IMAGES), axis=2).mean(axis=0),
                               rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('use, names', [(['teacher', 0, 2], ['head 0', 'head 2', 'teacher']),
                                        ([2, 1], ['head 1', 'head 2']), (['teacher'], ['teacher']),
                                        ([1], ['head 1']), (None, ['head 0', 'head 1', 'head 2', 'teacher'])])
def test_who_teaches(tmp_path, use, names):
    """In one pass of the backbone; without the teacher its own neck and head do not run."""
    snapshot, heads = heads_on(tmp_path)
    everyone, cohort = DIHTeacher(snapshot, heads.file), DIHTeacher(snapshot, heads.file, use)
    assert cohort.member_names == names
    calls = []
    for name, part in cohort.networks[0].named_modules():
        part.register_forward_hook(lambda *_, name=name: calls.append(name))
    rows = [everyone.member_names.index(name) for name in names]
    assert torch.equal(cohort(IMAGES), everyone(IMAGES)[rows])
    assert calls.count('backbone.conv1') == calls.count('backbone.layer3.1.conv2') == 1
    assert calls.count('head.fc') == calls.count('neck') == names.count('teacher')
    if use == ['teacher']:
        assert torch.equal(cohort(IMAGES), SnapshotEnsemble([snapshot])(IMAGES))


# ---------------------------------------------------------------- the promises of a cohort
@pytest.mark.parametrize('model', [resnet(3, drop_path_rate=0.5), vision_transformer(0.5, 0.5)])
def test_eval_whatever_calls_train(tmp_path, wake, model):
    cohort = cohort_of(tmp_path, model=with_statistics(model), out_indices=(0, 1))
    assert not any(module.training for module in cohort.modules()), 'before its first forward pass'
    before, logits = copy.deepcopy(cohort.state_dict()), cohort(IMAGES)
    wake(cohort)
    assert torch.equal(cohort(IMAGES), logits)
    assert not any(module.training for module in cohort.modules())
    assert not any(parameter.requires_grad for parameter in cohort.parameters())
    assert_same_weights(cohort.state_dict(), before)


def test_neither_building_nor_a_forward_pass_draws_random_numbers(tmp_path):
    snapshot, heads = heads_on(tmp_path)
    before = torch.get_rng_state()
    DIHTeacher(snapshot, heads.file, [0])(IMAGES)
    assert torch.equal(torch.get_rng_state(), before)


def test_inputs_of_other_statistics(tmp_path):
    cohort = cohort_of(tmp_path)
    own = cohort(cohort.data_preprocessor(batch())['inputs'])
    statistics = dict(STATISTICS, mean=[103.53, 116.28, 123.675], std=[57., 58., 59.], to_rgb=True)
    students = CLASSIFIERS.build(dict(statistics, type='ClsDataPreprocessor'))
    inputs = students(batch())['inputs']
    assert not torch.allclose(cohort(inputs), own, atol=1e-2)
    cohort.expect_inputs_of(students)
    assert_close(cohort(inputs), own, rtol=1e-3, atol=1e-4)
    snapshot, heads = heads_on(tmp_path)
    given = DIHTeacher(snapshot, heads.file, data_preprocessor=statistics)
    assert_close(given(inputs), own, rtol=1e-3, atol=1e-4)


def test_compiled_networks_compute_the_same(tmp_path):
    snapshot, heads = heads_on(tmp_path)
    student = network(STUDENT, 5)
    models = [CheckpointDistill(copy.deepcopy(student), DIHTeacher(snapshot, heads.file, use), compile=each)
              for use in (None, [0]) for each in (False, dict(backend='eager'))]
    losses = [model.eval()(**model.data_preprocessor(batch(), training=True), mode='loss')['loss_kd']
              for model in models]
    assert_close(losses[0], losses[1])
    assert_close(losses[2], losses[3])


# ---------------------------------------------------------------- what runs
BACKBONES = dict(
    ResNet_CIFAR=(dict(type='ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4), 32, 4),
    CIFARResNet=(dict(type='ckd_mm.CIFARResNet', depth=14), 64, 3),
    WideResNet=(dict(type='ckd_mm.WideResNet', depth=16, widen_factor=1), 64, 3),
    VGG=(dict(type='VGG', depth=11, norm_cfg=dict(type='BN')), 512, 5),
    MobileNetV2=(dict(type='MobileNetV2', widen_factor=0.25), 1280, 8),
    MobileNetV2CIFAR=(dict(type='ckd_mm.MobileNetV2CIFAR', widen_factor=0.25), 1280, 8),
    DenseNet=(dict(type='DenseNet', arch=dict(growth_rate=4, depths=[2, 2, 2], init_channels=8)), 16, 3),
    ResNet=(dict(type='ResNet', depth=18, stem_channels=8, base_channels=8), 64, 4),
)


def on_disk(folder, model: dict, seed: int = 1) -> Snapshot:
    torch.save(network(model, seed).state_dict(), folder / 'teacher.pth')
    return Snapshot(folder / 'teacher.pth', model=model)


@pytest.mark.parametrize('name', BACKBONES)
def test_maps_and_logits_are_those_of_the_plain_network(tmp_path, name):
    backbone, channels, stages = BACKBONES[name]
    model = dict(type='ImageClassifier', backbone=backbone, neck=dict(type='GlobalAveragePooling'),
                 head=dict(type='LinearClsHead', num_classes=10, in_channels=channels))
    snapshot = on_disk(tmp_path, with_statistics(model))
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features = FeatureNetwork(snapshot, (0, 1), (3, 32, 32))
    maps, logits = features(images)
    plain = snapshot.build()
    expected = CLASSIFIERS.build(dict(backbone, out_indices=tuple(range(stages))))
    expected.load_state_dict(plain.backbone.state_dict())
    expected.eval()
    with torch.no_grad():
        outputs = expected(images)
        assert torch.equal(logits, plain(images, mode='tensor'))
    assert len(outputs) == stages and all(torch.equal(left, right) for left, right in zip(maps, outputs))
    assert features.shapes == {0: outputs[0].shape[1:], 1: outputs[1].shape[1:]}
    known = ', '.join(map(str, range(stages)))
    with pytest.raises(ConfigError, match=rf'out_indices=\[0, {stages + 4}\].*it has \[{known}\]'):
        FeatureNetwork(snapshot, (0, stages + 4), (3, 32, 32))


@pytest.mark.parametrize('model', [
    dict(backbone=dict(type='ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[4, 8, 16, 32])),
         head=dict(type='LinearClsHead', num_classes=10, in_channels=32)),
    dict(backbone=dict(type='SwinTransformer', img_size=64, window_size=2,
                       arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])),
         neck=dict(type='GlobalAveragePooling'),
         head=dict(type='LinearClsHead', num_classes=10, in_channels=64))], ids=['ConvNeXt', 'Swin'])
def test_norms_that_a_backbone_has_for_outputs_only(tmp_path, model):
    """They are not in the snapshot; here they normalise alone. The same each time, or trained heads would not
    fit."""
    model = with_statistics(dict(type='ImageClassifier', **model))
    snapshot = on_disk(tmp_path, model)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = [FeatureNetwork(snapshot, (0, 2), (3, 64, 64)) for _ in range(2)]
    assert torch.equal(features[0](images)[1], snapshot.build()(images, mode='tensor'))
    for left, right in zip(*(feature(images)[0] for feature in features)):
        assert torch.equal(left, right)
        assert_close(left.mean(dim=1), torch.zeros_like(left.mean(dim=1)), rtol=0, atol=1e-4)


# ---------------------------------------------------------------- bad input
@pytest.mark.parametrize('out_indices, input_shape, message', [
    ((), (3, 8, 8), r'out_indices=\(\) should be a list of one or more outputs'),
    ((0, 0), (3, 8, 8), r'out_indices=\(0, 0\) should be .* each once'),
    ((-1, ), (3, 8, 8), r'out_indices=\(-1,\) should be .* counted from 0'),
    (2, (3, 8, 8), r'out_indices=2 should be a list'),
    ((True, ), (3, 8, 8), r'out_indices=\(True,\) should be a list'),
    ((0, 7), (3, 8, 8), r'out_indices=\[0, 7\]: the backbone of .*epoch_2\.pth \(epoch 2\), ResNet_CIFAR, '
                        r'does not return these outputs; it has \[0, 1, 2\]'),
    ((0, ), (1, 8, 8), r'input_shape=\(1, 8, 8\): the network of .* cannot take such images'),
    ((0, ), 32, r'input_shape=32 should be that of an image')])
def test_what_heads_cannot_be_trained_on(tmp_path, out_indices, input_shape, message):
    snapshot = trajectory(tmp_path, epochs=[2], model=TEACHER).last
    before = torch.get_rng_state()
    with pytest.raises(ConfigError, match=message) as caught:
        HeadTraining(snapshot, out_indices, input_shape)
    assert '\n' not in str(caught.value) and torch.equal(torch.get_rng_state(), before)


def test_a_network_without_outputs_to_choose(tmp_path):
    model = dict(type='ImageClassifier', backbone=dict(type='LeNet5', num_classes=10),
                 head=dict(type='ClsHead'))
    with pytest.raises(ConfigError, match=r'a network whose backbone has `out_indices`; LeNet5 of .* has '
                                          r'none'):
        FeatureNetwork(on_disk(tmp_path, model), (0, ), (1, 32, 32))


@pytest.mark.parametrize('use', [[], [3], ['head 0'], [0, 0], 'teacher', [0, 'student']])
def test_use(tmp_path, use):
    snapshot, heads = heads_on(tmp_path)
    with pytest.raises(ConfigError, match=r"use=.* should list one or more of \[0, 1, 2, 'teacher'\], the "
                                          'heads by their out_indices'):
        DIHTeacher(snapshot, heads.file, use)


def test_heads_of_another_teacher(tmp_path):
    """Also of the same network after another epoch; the same weights in another file are the same teacher."""
    _, heads = heads_on(tmp_path)
    other = trajectory(tmp_path / 'other', epochs=[2, 3], model=TEACHER)
    with pytest.raises(SnapshotError, match=r'heads .*heads\.pth were trained on the weights of '
                                            r'.*epoch_2\.pth \(epoch 2\), the teacher .*epoch_3\.pth \(epoch '
                                            r'3\) has others'):
        DIHTeacher(other.at(3), heads.file)
    DIHTeacher(other.at(2), heads.file)
    wider = trajectory(tmp_path / 'wider', epochs=[2], model=with_statistics(resnet(3, channels=8)))
    with pytest.raises(SnapshotError, match='were trained on the weights of'):
        DIHTeacher(wider.last, heads.file)
    with pytest.raises(SnapshotError, match=r'heads .*heads\.pth do not fit the teacher .*: out_indices=\[0, '
                                            r'1, 2\].*it has \[0, 1\]\. Use the snapshot they were trained '
                                            r'on, .*epoch_2\.pth'):
        shorter = trajectory(tmp_path / 'shorter', epochs=[2], model=with_statistics(resnet(2)))
        DIHTeacher(shorter.last, heads.file)


def test_heads_of_other_classes(tmp_path):
    _, heads = heads_on(tmp_path)
    turned = trajectory(tmp_path / 'turned', epochs=[2], model=TEACHER, classes=tuple(reversed(DIGITS)))
    with pytest.raises(SnapshotError, match=r"the same in another order: class 0 is '0' for the heads, '9' "
                                            'for the teacher'):
        DIHTeacher(turned.last, heads.file)
    fewer = trajectory(tmp_path / 'fewer', epochs=[2], model=with_statistics(resnet(3, classes=7)),
                       classes=DIGITS[:7])
    with pytest.raises(SnapshotError, match='know 10 classes and the teacher .* 7; train heads for this one'):
        DIHTeacher(fewer.last, heads.file)


@pytest.mark.parametrize('key, value, message', [
    ('sha256', None, 'heads.sha256 is missing'),
    ('kind', 'os.mkdir', "heads.kind='os.mkdir' should be one of"),
    ('grid', 'four', "heads.grid='four' should be a whole number"),
    ('shapes', 3, 'heads.shapes=3 should be a'),
    ('shapes', [[4, 8, 8]], r'heads\.shapes=.* should be one for each of heads\.out_indices=\[0, 1'),
    ('shapes', ['a', 'b', 'c'], r"heads\.shapes\[0\]='a' should be a list"),
    ('shapes', [[4, -8, 8]] * 3, r'heads\.shapes\[0\]=-8 should be a whole number'),
    ('shapes', [[4, 2**40, 2**40]] * 3, '(Runtime|Type)Error'),
    ('shapes', [[4, 8, 8]] * 3, 'its heads are not what it says of them: .* weights of another shape'),
    ('out_indices', ['0', 1, 2], r"heads\.out_indices\[0\]='0' should be a whole number"),
    ('out_indices', [0, 1, 5], 'its heads are not what it says of them: 2 weights missing'),
    ('num_classes', 9, 'its heads are not what it says of them: .* weights of another shape'),
    ('input_shape', ['x'], r"heads\.input_shape\[0\]='x' should be a whole number"),
    ('teacher', {}, r'heads\.teacher\.file is missing'),
    ('teacher', dict(file=3, weights=''), r'heads\.teacher\.file=3 should be a str'),
    ('teacher', 'epoch_2.pth', "heads.teacher='epoch_2.pth' should be a dict")])
def test_facts_of_other_types(tmp_path, key, value, message):
    snapshot, heads = heads_on(tmp_path)
    checkpoint = torch.load(heads.file)
    checkpoint['meta']['heads'][key] = value
    torch.save(checkpoint, heads.file)
    with pytest.raises(SnapshotError, match=f'^{heads.file} is damaged: {message}'):
        DIHTeacher(snapshot, heads.file)


def test_files_that_are_no_heads(tmp_path):
    snapshot, heads = heads_on(tmp_path)
    with pytest.raises(SnapshotError, match=r'heads .*nowhere\.pth do not exist'):
        DIHTeacher(snapshot, tmp_path / 'nowhere.pth')
    with pytest.raises(SnapshotError, match=r'epoch_2\.pth is no file of heads'):
        read_heads(snapshot.file)
    data = bytearray(heads.file.read_bytes())
    data[data.index(b'data/0') + 200] ^= 1  # where torch.load notices nothing
    heads.file.write_bytes(bytes(data))
    torch.load(heads.file, weights_only=True)
    with pytest.raises(SnapshotError, match='are damaged: the SHA-256 of their weights'):
        read_heads(heads.file)
    heads.file.write_bytes(bytes(data[:len(data) // 2]))
    with pytest.raises(SnapshotError, match=r'heads\.pth cannot be read, it is damaged'):
        read_heads(heads.file)


def test_heads_of_nan_are_neither_written_nor_read(tmp_path, monkeypatch):
    snapshot, heads = heads_on(tmp_path)
    training = HeadTraining(snapshot, heads.out_indices, heads.input_shape)
    next(training.heads.parameters()).data.view(-1)[0] = math.nan
    before = heads.file.read_bytes()
    with pytest.raises(DivergedError, match=r'^heads.pth is not written: 1 of its \d+ weights are not'):
        training.write(heads.file)
    assert heads.file.read_bytes() == before
    with monkeypatch.context() as patch:
        patch.setattr('ckd_mm.teachers.head_file.require_finite', lambda *arguments: None)
        training.write(heads.file)
    with pytest.raises(SnapshotError, match=r'^heads \S+/heads.pth: 1 of its \d+ weights are not finite'):
        read_heads(heads.file)


def test_the_file_says_what_it_is_of(tmp_path):
    snapshot, heads = heads_on(tmp_path, out_indices=(2, 0), kind='pool', grid=2)
    checkpoint = torch.load(heads.file, weights_only=True)
    assert list(checkpoint['state_dict']) == ['heads.0.fc.weight', 'heads.0.fc.bias', 'heads.2.fc.weight',
                                              'heads.2.fc.bias']
    meta = checkpoint['meta']['heads']
    expected = dict(out_indices=[0, 2], kind='pool', grid=2, input_shape=[3, 8, 8], num_classes=10,
                    shapes=[[4, 8, 8], [16, 2, 2]])
    assert {key: meta[key] for key in expected} == expected
    assert meta['teacher'] == dict(file='run/snapshots/epoch_2.pth', epoch=2,
                                   weights=weights_sha256(network(TEACHER, 2).state_dict()))
    assert checkpoint['meta']['versions'] == versions()
    assert heads.classes == DIGITS and heads.teacher_file.resolve() == snapshot.file.resolve()
