"""Snapshots as teachers: their logits, that they stay as they were, input statistics, bad input."""

import copy
import json
import shutil

import pytest
import torch
from mmpretrain.registry import MODELS as CLASSIFIERS
from torch import nn
from torch.testing import assert_close

from ckd_mm.errors import ConfigError, SnapshotError
from ckd_mm.losses import CohortKDLoss, cohort_kd_loss
from ckd_mm.registry import MODELS
from ckd_mm.teachers import SnapshotEnsemble

from ..conftest import STATISTICS, resnet
from ..helpers import (
    DIGITS,
    assert_same_weights,
    batch,
    labels_of,
    network,
    train,
    trajectory,
    vision_transformer,
    with_statistics,
)

IMAGES = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(9))


def members(folder, *epochs) -> list:
    return [dict(trajectory=str(folder), epoch=epoch) for epoch in epochs]


def bare(file, model: dict, seed: int = 1) -> str:
    """A file of weights and nothing else."""
    torch.save(network(model, seed).state_dict(), file)
    return str(file)


@torch.no_grad()
def logits_of(*networks) -> torch.Tensor:
    """Of plain networks, each a config and the seed of its weights: (M, 5, 10)."""
    return torch.stack([network(with_statistics(model), seed)(IMAGES, mode='tensor')
                        for model, seed in networks])


# ---------------------------------------------------------------- logits
def test_logits_are_those_of_the_networks(tmp_path):
    trajectory(tmp_path)
    ensemble = SnapshotEnsemble(members(tmp_path, 3, 1, 2))
    logits = ensemble(IMAGES)
    assert torch.equal(logits, logits_of((resnet(2), 3), (resnet(2), 1), (resnet(2), 2)))
    assert not torch.equal(logits[0], logits[1])
    assert torch.equal(ensemble(IMAGES, mode='loss'), logits)
    assert ensemble.classes == DIGITS


def test_one_teacher_is_an_ensemble_of_one_bit_for_bit(tmp_path):
    teacher = trajectory(tmp_path, epochs=[4]).last.build()
    ensemble = SnapshotEnsemble(members(tmp_path, 4))
    alone = teacher(IMAGES, mode='tensor')
    assert torch.equal(ensemble(IMAGES), alone[None])
    student = torch.randn(5, 10)
    for aggregation in ('prob', 'logit', 'loss'):
        assert torch.equal(CohortKDLoss(aggregation=aggregation)(student, ensemble(IMAGES)),
                           cohort_kd_loss(student, alone, 4.0))


def test_predict_is_the_mean_of_the_softmaxes(tmp_path):
    trajectory(tmp_path)
    ensemble = SnapshotEnsemble(members(tmp_path, 1, 2))
    data = batch()
    predictions = ensemble.test_step(copy.deepcopy(data))
    inputs = torch.stack(data['inputs']).float().sub(77.9).div(95.9)
    with torch.no_grad():
        expected = sum(network(with_statistics(resnet(2)), epoch)(inputs, mode='tensor').softmax(dim=1)
                       for epoch in (1, 2)) / 2
    assert_close(torch.stack([sample.pred_score for sample in predictions]), expected)
    assert torch.equal(torch.cat([sample.pred_label for sample in predictions]), expected.argmax(dim=1))
    assert torch.equal(labels_of(dict(data_samples=predictions)), labels_of(data))


# ---------------------------------------------------------------- they stay as they were
@pytest.mark.parametrize('model', [resnet(2, drop_path_rate=0.5), vision_transformer(0.5, 0.5)])
def test_eval_whatever_calls_train(tmp_path, model, wake):
    trajectory(tmp_path, model=with_statistics(model))
    ensemble = SnapshotEnsemble(members(tmp_path, 1, 2))
    assert not any(module.training for module in ensemble.modules()), 'before its first forward pass'
    before = copy.deepcopy(ensemble.state_dict())
    logits = ensemble(IMAGES)
    wake(ensemble)
    assert torch.equal(ensemble(IMAGES), logits)
    assert not any(module.training for module in ensemble.modules())
    assert_same_weights(ensemble.state_dict(), before)
    # this can fail: in train mode the same network computes something else
    assert not torch.equal(ensemble.networks[0].train()(IMAGES, mode='tensor'), logits[0])


@pytest.mark.parametrize('part', [lambda ensemble: ensemble, nn.Sequential], ids=['it', 'what holds it'])
def test_train_does_nothing(tmp_path, part):
    trajectory(tmp_path)
    ensemble = SnapshotEnsemble(members(tmp_path, 1))
    part(ensemble).train()
    assert not any(module.training for module in ensemble.modules())


def test_no_gradient_reaches_the_teachers(tmp_path):
    trajectory(tmp_path)
    ensemble = SnapshotEnsemble(members(tmp_path, 1, 2))
    inputs = IMAGES.clone().requires_grad_()
    logits = ensemble(inputs)
    assert not logits.requires_grad and logits.grad_fn is None
    student = torch.randn(5, 10, requires_grad=True)
    CohortKDLoss()(student, logits).backward()
    assert student.grad.abs().sum() > 0
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in ensemble.parameters())


# ---------------------------------------------------------------- where they come from
def test_two_trajectories_and_networks_of_several_kinds(tmp_path):
    trajectory(tmp_path / 'one')
    trajectory(tmp_path / 'two', model=with_statistics(resnet(1)), seed=50)
    snapshots = members(tmp_path / 'one', 1) + members(tmp_path / 'two', 3)
    ensemble = MODELS.build(dict(type='ckd_mm.SnapshotEnsemble', snapshots=snapshots))
    assert torch.equal(ensemble(IMAGES), logits_of((resnet(2), 1), (resnet(1), 53)))


def test_a_trajectory_without_epoch_is_its_last_snapshot(tmp_path):
    trajectory(tmp_path)
    ensemble = SnapshotEnsemble([dict(trajectory=str(tmp_path))])
    assert [snapshot.epoch for snapshot in ensemble.snapshots] == [3]


def test_files_of_other_projects_with_the_network_given(tmp_path):
    """Bare state dicts, and dicts with a state_dict, without any word about the network."""
    model, other = with_statistics(resnet(2)), with_statistics(resnet(1))
    torch.save(dict(state_dict=network(model, 2).state_dict(), note='mine'), tmp_path / 'wrapped.ckpt')
    ensemble = SnapshotEnsemble([bare(tmp_path / 'bare.pt', model), tmp_path / 'wrapped.ckpt',
                                 dict(file=bare(tmp_path / 'other.pth', other, 3), model=other)], model=model)
    assert torch.equal(ensemble(IMAGES), logits_of((resnet(2), 1), (resnet(2), 2), (resnet(1), 3)))


def test_a_snapshot_file_alone_knows_its_network_and_classes(tmp_path):
    moved = shutil.copy(trajectory(tmp_path / 'run').at(2).file, tmp_path / 'teacher.pth')
    ensemble = SnapshotEnsemble([moved])
    assert (ensemble.snapshots[0].epoch, ensemble.classes) == (2, DIGITS)
    assert torch.equal(ensemble(IMAGES), logits_of((resnet(2), 2)))


def test_an_ordinary_checkpoint_file_knows_its_network(digits_run):
    runner = train(digits_run(epochs=1))
    ensemble = SnapshotEnsemble([f'{runner.work_dir}/epoch_1.pth'])
    assert ensemble.classes == DIGITS and ensemble.snapshots[0].epoch == 1
    with torch.no_grad():
        assert torch.equal(ensemble(IMAGES)[0], runner.model.eval()(IMAGES, mode='tensor'))


# ---------------------------------------------------------------- input statistics
STUDENTS = dict(same=dict(),
                rgb=dict(to_rgb=True, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
                bgr=dict(mean=[103.53, 116.28, 123.675], std=[57.375, 57.12, 58.395]),
                raw=dict(mean=None, std=None), raw_rgb=dict(mean=None, std=None, to_rgb=True),
                one_number=dict(mean=[127.5], std=[127.5], to_rgb=True))


@pytest.mark.parametrize('student', STUDENTS)
@pytest.mark.parametrize('teacher', ['same', 'rgb', 'raw', 'raw_rgb', 'bgr'])
def test_each_teacher_gets_the_inputs_its_own_preprocessor_would_make(tmp_path, student, teacher):
    trajectory(tmp_path / 'a', epochs=[1], model=with_statistics(resnet(1), **STUDENTS[teacher]))
    trajectory(tmp_path / 'b', epochs=[1], model=with_statistics(resnet(1), **STUDENTS['rgb']))
    ensemble = SnapshotEnsemble([dict(trajectory=str(tmp_path / name)) for name in 'ab'])
    preprocessor = CLASSIFIERS.build(dict(STATISTICS, type='ClsDataPreprocessor', **STUDENTS[student]))
    ensemble.expect_inputs_of(preprocessor)
    seen = []
    for member in ensemble.networks:
        member.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    ensemble(preprocessor(batch())['inputs'])
    assert len(seen) == 2
    for inputs, member in zip(seen, ensemble.networks):
        assert_close(inputs, member.data_preprocessor(batch())['inputs'], rtol=1e-5, atol=2e-4)


def test_the_students_data_preprocessor_as_an_argument(tmp_path):
    """For mmrazor's algorithms, which do not call ``expect_inputs_of``."""
    trajectory(tmp_path, epochs=[1])
    given = SnapshotEnsemble(members(tmp_path, 1), data_preprocessor=dict(STATISTICS, **STUDENTS['rgb']))
    alone = SnapshotEnsemble(members(tmp_path, 1))
    students = CLASSIFIERS.build(dict(STATISTICS, type='ClsDataPreprocessor', **STUDENTS['rgb']))
    expected = alone(alone.data_preprocessor(batch())['inputs'])
    assert_close(given(students(batch())['inputs']), expected, rtol=1e-4, atol=1e-4)
    assert_close(given(given.data_preprocessor(batch())['inputs']), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(alone(students(batch())['inputs']), expected, atol=1e-2)


def test_the_same_statistics_leave_inputs_alone_and_converters_are_no_weights(tmp_path):
    trajectory(tmp_path, epochs=[1])
    ensemble = SnapshotEnsemble(members(tmp_path, 1))
    ensemble.expect_inputs_of(CLASSIFIERS.build(dict(STATISTICS, type='ClsDataPreprocessor')))
    before, seen = list(ensemble.state_dict()), []
    ensemble.networks[0].backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    ensemble(IMAGES)
    assert seen[0] is IMAGES
    other = dict(type='ClsDataPreprocessor', mean=[1.0] * 3, std=[2.0] * 3)
    ensemble.expect_inputs_of(CLASSIFIERS.build(other))
    assert list(ensemble.state_dict()) == before
    assert not any(module.training for module in ensemble.modules())


# ---------------------------------------------------------------- mmrazor
def test_teacher_of_mmrazors_own_algorithm(tmp_path):
    from ckd_mm.compat import require_mmrazor
    require_mmrazor('this test')
    from mmrazor.registry import MODELS as RAZOR
    trajectory(tmp_path)
    algorithm = RAZOR.build(dict(
        type='SingleTeacherDistill', _scope_='mmrazor',
        architecture=dict(with_statistics(resnet(1)), _scope_='mmpretrain'),
        teacher=dict(type='ckd_mm.SnapshotEnsemble', snapshots=members(tmp_path, 1, 3)),
        data_preprocessor=dict(STATISTICS, type='mmpretrain.ClsDataPreprocessor'),
        distiller=dict(
            type='ConfigurableDistiller',
            student_recorders=dict(logits=dict(type='ModuleOutputs', source='head.fc')),
            teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='logits')),
            distill_losses=dict(loss_kd=dict(type='ckd_mm.CohortKDLoss', tau=3.0, loss_weight=0.9)),
            loss_forward_mappings=dict(loss_kd=dict(
                student_logits=dict(recorder='logits', from_student=True),
                teacher_logits=dict(recorder='logits', from_student=False))))))
    algorithm.train()
    data = algorithm.data_preprocessor(batch(), training=True)
    student = copy.deepcopy(algorithm.architecture)
    losses = algorithm(**data, mode='loss')
    with torch.no_grad():
        teachers = torch.stack([network(with_statistics(resnet(2)), epoch)(data['inputs'], mode='tensor')
                                for epoch in (1, 3)])
        expected = 0.9 * cohort_kd_loss(student(data['inputs'], mode='tensor'), teachers, 3.0)
    assert_close(losses['distill.loss_kd'], expected)
    sum(losses[name] for name in ('student.loss', 'distill.loss_kd')).backward()
    assert all(parameter.grad is not None for parameter in algorithm.architecture.parameters())
    assert all(parameter.grad is None for parameter in algorithm.teacher.parameters())
    assert not any(module.training for module in algorithm.teacher.modules())


# ---------------------------------------------------------------- bad input
def damaged(folder, way: str) -> str:
    """Damages the file of epoch 2."""
    file = trajectory(folder).at(2).file
    data = bytearray(file.read_bytes())
    if way == 'flipped':  # in the middle of the weights, where torch.load itself notices nothing
        data[data.index(b'data/0') + 200] ^= 1
        file.write_bytes(bytes(data))
        torch.load(file, weights_only=True)
    elif way == 'truncated':
        file.write_bytes(bytes(data[:100]))
    else:
        file.unlink()
    return str(file)


@pytest.mark.parametrize('way, by_file, message', [
    ('missing', False, r'epoch_2\.pth \(epoch 2\) does not exist'),
    ('missing', True, r'epoch_2\.pth does not exist'),
    ('truncated', False, r'epoch_2\.pth \(epoch 2\) is damaged: 100 bytes where its manifest says [\d,]{5,}'),
    ('truncated', True, r'epoch_2\.pth.*damaged'),
    ('flipped', False, r'epoch_2\.pth \(epoch 2\) is damaged: its SHA-256'),
    ('flipped', True, r'epoch_2\.pth \(epoch 2\) is damaged: its SHA-256')])
def test_a_damaged_file(tmp_path, way, by_file, message):
    file = damaged(tmp_path, way)
    with pytest.raises(SnapshotError, match=message) as caught:
        SnapshotEnsemble([file] if by_file else members(tmp_path, 2))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('model, problem', [
    (resnet(2, channels=8), r'first: backbone\.conv1\.weight is \(4, 3, 3, 3\), expected \(8, 3, 3, 3\)'),
    (resnet(1), r'weights unknown, first: backbone\.layer2'),
    (resnet(3), r'weights missing, first: backbone\.layer3'),
    (resnet(2, classes=7), r'of another shape, first: head\.fc\.weight is \(10, 8\), expected \(7, 8\)'),
], ids=['wider', 'shorter', 'longer', 'fewer classes'])
def test_another_architecture_or_class_count(tmp_path, model, problem):
    trajectory(tmp_path)
    manifest = tmp_path / 'trajectory.json'
    manifest.write_text(json.dumps(dict(json.loads(manifest.read_text()), model=with_statistics(model))))
    with pytest.raises(SnapshotError, match=rf'epoch_2\.pth \(epoch 2\) is not of the network .*{problem}'):
        SnapshotEnsemble(members(tmp_path, 2))
    with pytest.raises(SnapshotError, match=rf'bare\.pth is not of the network .*{problem}'):
        SnapshotEnsemble([bare(tmp_path / 'bare.pth', with_statistics(resnet(2)))], with_statistics(model))


@pytest.mark.parametrize('manifest', [True, False])
def test_members_with_other_classes(tmp_path, manifest):
    files = []
    for name, classes in (('a', DIGITS), ('b', tuple(reversed(DIGITS)))):
        files.append(trajectory(tmp_path / name, epochs=[2], classes=classes).last.file)
        if not manifest:
            files[-1] = shutil.copy(files[-1], tmp_path / f'{name}.pth')
    with pytest.raises(SnapshotError, match=rf'{files[0]}.* and .*{files[1]}.* other classes, or the same in '
                                            'another order'):
        SnapshotEnsemble(list(map(str, files)))


def test_members_with_another_class_count_and_no_names(tmp_path):
    models = dict(ten=with_statistics(resnet(2)), seven=with_statistics(resnet(2, classes=7)))
    with pytest.raises(SnapshotError, match=r'ten\.pth has 10 classes and .*seven\.pth has 7'):
        SnapshotEnsemble([dict(file=bare(tmp_path / f'{name}.pth', model), model=model)
                          for name, model in models.items()])


def test_snapshots_that_are_not_there_or_lack_a_network(tmp_path):
    trajectory(tmp_path / 'run')
    (tmp_path / 'empty').mkdir()
    for snapshot, message in (
        (members(tmp_path / 'run', 7)[0], r'no snapshot at epoch 7 in .*run: there are \[1, 2, 3\]'),
        (dict(trajectory=str(tmp_path / 'empty')), r'the trajectory at .*empty is empty'),
        (bare(tmp_path / 'bare.pth', with_statistics(resnet(2))),
         r'bare\.pth does not say which network it is of: give its config as `model`')):
        with pytest.raises(SnapshotError, match=message):
            SnapshotEnsemble([snapshot])


@pytest.mark.parametrize('snapshots, message', [
    ([], r'snapshots=\[\] should be a list of at least one snapshot'),
    ('epoch_3.pth', r"snapshots='epoch_3\.pth' should be a list"),
    (dict(file='epoch_3.pth'), r"snapshots=\{'file': 'epoch_3\.pth'\} should be a list"),
    ([7], r'snapshots: 7 should be a file'),
    ([dict(epoch=3)], r"snapshots: \{'epoch': 3\} should be a file"),
    ([dict(file='a.pth', trajectory='b')], r'should be a file'),
    ([dict(trajectory='b', epochs=[3])], r"'epochs': \[3\]\} should be a file"),
])
def test_what_is_no_list_of_snapshots(snapshots, message):
    with pytest.raises(ConfigError, match=message):
        SnapshotEnsemble(snapshots)
