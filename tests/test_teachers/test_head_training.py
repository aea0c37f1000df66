"""Heads learn, the network below them does not."""

import copy

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from scipy.special import log_softmax
from torch.testing import assert_close

from ckd_mm.errors import ConfigError
from ckd_mm.teachers import DIHTeacher, HeadTraining, IntermediateHead, default_kind
from ckd_mm.teachers.feature_network import weights_sha256
from ckd_mm.trajectory import Trajectory

from ..conftest import resnet
from ..helpers import (
    StepLog,
    assert_same_weights,
    batch,
    labels_of,
    network,
    train,
    trajectory,
    weights_of,
    with_statistics,
)

TEACHER = with_statistics(resnet(3))
SHAPE = (3, 8, 8)


def head_training(folder, out_indices=(0, 1, 2), **settings) -> HeadTraining:
    return HeadTraining(trajectory(folder, epochs=[2], model=TEACHER).last, out_indices, SHAPE, **settings)


def heads_run(make, folder, **settings):
    """Config of a plain mmengine run that trains heads."""
    config = make(**settings)
    config.model = dict(type='ckd_mm.HeadTraining', snapshot=dict(trajectory=str(folder)),
                        out_indices=(0, 1, 2), input_shape=SHAPE)
    return config


def steps(model, count: int = 3) -> list:
    """Losses of training steps on fixed batches."""
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3))
    return [model.train().train_step(batch(8, seed), wrapper) for seed in range(count)]


# ---------------------------------------------------------------- the head
@pytest.mark.parametrize('kind, grid, shape, parameters', [
    ('flatten', 4, (16, 32, 32), (16384 + 1) * 100),  # footnote 4 of DIH: (N_i + 1) x C
    ('pool', 4, (64, 56, 56), (64 * 16 + 1) * 100), ('pool', 4, (64, 3, 7), (64 * 3 * 4 + 1) * 100),
    ('pool', 1, (64, 8, 8), 65 * 100), ('flatten', 4, (24, ), 25 * 100), ('pool', 4, (24, ), 25 * 100)])
def test_parameters_of_a_head(kind, grid, shape, parameters):
    head = IntermediateHead(100, shape, kind, grid)
    assert sum(parameter.numel() for parameter in head.parameters()) == parameters
    assert head((torch.randn(2, *shape), )).shape == (2, 100)


def test_pooling_is_the_average_over_a_grid():
    """8x8 maps to a grid of 4: means of 2x2 pixels; a map of the grid's size stays, bit for bit what
    `flatten` gives."""
    features = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    head = IntermediateHead(5, (3, 8, 8), 'pool', 4)
    means = features.numpy().reshape(2, 3, 4, 2, 4, 2).mean(axis=(3, 5)).reshape(2, 48)
    expected = means @ head.fc.weight.detach().numpy().T + head.fc.bias.detach().numpy()
    np.testing.assert_allclose(head((features, )).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    same, flat = IntermediateHead(5, (3, 8, 8), 'pool', 8), IntermediateHead(5, (3, 8, 8))
    flat.load_state_dict(same.state_dict())
    assert torch.equal(same((features, )), flat((features, )))


@pytest.mark.parametrize('size, kind', [(8, 'flatten'), (63, 'flatten'), (64, 'pool'), (224, 'pool')])
def test_the_default_kind(tmp_path, size, kind):
    assert default_kind((3, size, size)) == default_kind((3, 1, size)) == kind
    snapshot = trajectory(tmp_path, epochs=[2], model=TEACHER).last
    assert {head.kind for head in HeadTraining(snapshot, (0, 1), (3, 8, size)).heads.values()} == {kind}


# ---------------------------------------------------------------- the losses
def test_a_cross_entropy_a_head(tmp_path):
    model = head_training(tmp_path)
    data = model.data_preprocessor(batch(), training=True)
    losses = model(**data, mode='loss')
    logits, labels = model(data['inputs']).detach().double().numpy(), labels_of(batch()).numpy()
    assert list(losses) == ['loss_head_0', 'loss_head_1', 'loss_head_2']
    for loss, rows in zip(losses.values(), logits):
        cross_entropy = -log_softmax(rows, axis=1)[np.arange(len(labels)), labels].mean()
        assert loss.item() == pytest.approx(cross_entropy, rel=1e-4)
    with torch.no_grad():
        assert torch.equal(model(data['inputs'])[-1], network(TEACHER, 2)(data['inputs'], mode='tensor'))
    scores = torch.stack([sample.pred_score for sample in model(**data, mode='predict')])
    assert_close(scores, model(data['inputs']).softmax(dim=2).mean(dim=0))


def test_the_backbone_runs_once_a_batch_without_gradients(tmp_path):
    model = head_training(tmp_path)
    calls = []
    model.network.backbone.conv1.register_forward_hook(
        lambda _module, _inputs, output: calls.append(output.requires_grad))
    losses = model(**model.data_preprocessor(batch(), training=True), mode='loss')
    sum(losses.values()).backward()
    assert calls == [False]
    assert all(parameter.grad is None for parameter in model.network.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.heads.parameters())


def test_together_they_learn_what_each_learns_alone(tmp_path):
    together = head_training(tmp_path)
    start = copy.deepcopy(together.heads.state_dict())
    alone = {index: head_training(tmp_path / str(index), (index, )) for index in (0, 1, 2)}
    for index, model in alone.items():
        model.load_state_dict({f'heads.{key}': value for key, value in start.items() if key[0] == str(index)})
    logs = steps(together)
    for index, model in alone.items():
        for log, own in zip(logs, steps(model)):
            assert torch.equal(log[f'loss_head_{index}'], own[f'loss_head_{index}'])
        assert_same_weights(model.heads[str(index)].state_dict(), together.heads[str(index)].state_dict())
        assert not torch.equal(together.heads[str(index)].fc.weight, start[f'{index}.fc.weight'])


def test_optimizer_state_dict_and_copies_see_the_heads_alone(tmp_path):
    model = head_training(tmp_path)
    names = [f'heads.{index}.fc.{part}' for index in (0, 1, 2) for part in ('weight', 'bias')]
    assert [name for name, _ in model.named_parameters()] == list(model.state_dict()) == names
    twin = copy.deepcopy(model)
    assert twin.network is model.network and twin.heads is not model.heads


def test_the_teacher_stays_in_eval(tmp_path, wake):
    model = head_training(tmp_path)
    before = copy.deepcopy(model.network.state_dict())
    wake(model.network)
    steps(model, 2)
    assert not any(module.training for module in model.network.modules())
    assert_same_weights(model.network.state_dict(), before)


# ---------------------------------------------------------------- real trainings
def test_a_real_training_leaves_the_network_as_it_was(digits_run, tmp_path):
    """Weights and BatchNorm statistics, in memory and on disk; the heads learn and their file is what was
    trained."""
    teacher = train(
        digits_run(epochs=3, images=200, custom_hooks=[dict(type='ckd_mm.SnapshotHook', interval=3)],
                   model=resnet(3), work_dir=tmp_path / 'teacher'))
    snapshot = Trajectory.open(teacher.work_dir).last
    file, before = snapshot.file.read_bytes(), snapshot.state_dict()
    log = StepLog()
    runner = train(heads_run(digits_run, teacher.work_dir, epochs=4, images=200, batch=32), log)
    after = runner.model.network.state_dict()
    assert any('running' in name for name in before) and snapshot.file.read_bytes() == file
    assert_same_weights({name: after[name] for name in before}, before)
    assert weights_sha256(before) == runner.model.network.weights_sha256
    for index in (0, 1, 2):
        losses = [step[f'loss_head_{index}'] for _, step in log.steps]
        assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert list(weights_of(f'{runner.work_dir}/epoch_4.pth')) == list(runner.model.state_dict())
    heads = runner.model.write(tmp_path / 'heads.pth')
    cohort = DIHTeacher(snapshot, heads.file)
    images = cohort.data_preprocessor(batch())['inputs']
    with torch.no_grad():
        assert torch.equal(cohort(images), runner.model.eval()(images))


def test_it_is_trained_with_the_inputs_of_its_run(digits_run, tmp_path):
    """A run's data_preprocessor that is not the teacher's: images are brought back to the teacher's
    statistics."""
    trajectory(tmp_path / 'teacher', epochs=[2], model=TEACHER)
    settings = dict(snapshot=dict(trajectory=str(tmp_path / 'teacher')), out_indices=(1, ), input_shape=SHAPE)
    own = HeadTraining(**settings)
    other = HeadTraining(**settings,
                         data_preprocessor=dict(mean=[120., 110., 100.], std=[50., 60., 70.], to_rgb=True))
    other.heads.load_state_dict(own.heads.state_dict())
    logits = [model(model.data_preprocessor(batch())['inputs']) for model in (own, other)]
    assert_close(*logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('kind, grid, message', [
    ('conv', 4, r"kind='conv' should be one of \('flatten', 'pool'\)"),
    ('pool', 0, 'grid=0 should be a whole number'), ('pool', 2.0, r'grid=2\.0 should be a whole number')])
def test_settings(kind, grid, message):
    with pytest.raises(ConfigError, match=message):
        IntermediateHead(10, (3, 8, 8), kind, grid)
