"""Teachers in channels_last: the same outputs but for rounding, or untouched."""

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ckd_mm.students import CheckpointDistill
from ckd_mm.teachers import BaseCohort, DIHTeacher, HeadTraining, SnapshotEnsemble
from ckd_mm.teachers.channels_last import set_memory_format, to_channels_last

from ..conftest import resnet
from ..helpers import (
    TEACHER,
    batch,
    cohort_of,
    feature_distiller,
    graphs_of_compiler,
    is_last,
    network,
    trajectory,
    vision_transformer,
    with_statistics,
)

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(4))
SMALL = IMAGES[:, :, :8, :8]


def classifier(channels: int, **backbone) -> dict:
    head = dict(type='LinearClsHead', num_classes=10, in_channels=channels)
    neck = dict(type='GlobalAveragePooling')
    return with_statistics(dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head))


NETWORKS = dict(resnet=resnet(2),
                wide_resnet=classifier(128, type='ckd_mm.WideResNet', depth=10, widen_factor=2),
                densenet=classifier(28, type='ckd_mm.DenseNetCIFAR', depth=7, growth_rate=4),
                mobilenet=classifier(1280, type='MobileNetV2', widen_factor=0.25),
                resnext=classifier(64, type='ResNeXt', depth=50, groups=2, width_per_group=4, base_channels=2,
                                   stem_channels=8),
                transformer=vision_transformer())


def convolutions(module: nn.Module) -> list:
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]


def wide(weight: torch.Tensor) -> bool:
    """Of several channels and pixels: one alone is in both orders."""
    return weight.shape[1] > 1 and weight.shape[2] > 1


def in_channels_last(module: nn.Module) -> set:
    return {is_last(part.weight) for part in convolutions(module) if wide(part.weight)}


@pytest.mark.parametrize('name', NETWORKS)
def test_weights_and_maps_are_in_channels_last_and_outputs_stay(name):
    images = SMALL if name == 'transformer' else IMAGES
    plain = network(NETWORKS[name], 3)
    changed, maps = copy.deepcopy(plain), []
    weights = [part.weight for part in convolutions(changed)]
    assert to_channels_last(changed, images[:2]) is None and in_channels_last(changed) == {True}
    assert all(part.weight is weight for part, weight in zip(convolutions(changed), weights))
    for part in convolutions(changed):
        part.register_forward_hook(lambda module, inputs, output: maps.append(output))
    with torch.no_grad():
        expected = plain(images)
        assert_close(changed(images), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert len(maps) == len(weights) and all(map(is_last, filter(wide, maps)))


def test_networks_with_other_weights():
    """A convolution over three dimensions has none of four."""
    model = nn.Sequential(nn.Conv3d(2, 3, 3), nn.Conv2d(2, 3, 3), nn.Linear(3, 2))
    before = list(model.parameters())
    values = [parameter.clone() for parameter in before]
    set_memory_format(model, torch.channels_last)
    assert is_last(model[1].weight) and model[0].weight.is_contiguous()
    assert all(left is right and torch.equal(left, value)
               for left, right, value in zip(before, model.parameters(), values))


# ---------------------------------------------------------------- the guard
class Particular(nn.Module):
    """Does something particular with maps in channels_last, or with small images."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.convolution = way, nn.Conv2d(3, 4, 3, padding=1)
        self.eval().requires_grad_(False)

    def forward(self, images):
        if self.way == 'small' and images.shape[-1] != 16:
            raise ValueError('16 pixels wanted')
        maps = self.convolution(images)
        if is_last(maps):
            assert self.way != 'asserts', 'the usual order wanted'
            if self.way == 'views':  # as VGG with its fully connected layers does
                maps.view(len(maps), -1)
            if self.way == 'reads memory':  # as kernels do that take the order for granted
                maps = maps.permute(0, 2, 3, 1).reshape(maps.shape)
            if self.way == 'TF32':  # a hundredth is what its rounding changed in a MobileNetV2
                maps = maps * 1.01
            if self.way == 'NaN':
                maps = maps * torch.nan
        return dict(maps=[maps.flatten(2)[..., :5]])


class Teaches(BaseCohort):
    """Networks without configs, which resize their inputs."""

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.freeze()

    def member_logits(self, inputs):
        images = nn.functional.interpolate(inputs, size=16)
        return [network(images)['maps'][0] for network in self.networks]


@pytest.fixture
def logged(monkeypatch):
    """What a cohort writes into the log."""
    lines = []
    monkeypatch.setattr('ckd_mm.teachers.base_cohort.print_log', lambda line, logger: lines.append(line))
    return lines


@pytest.mark.parametrize('way, problem', [
    ('ordinary', None), ('TF32', None), ('reads memory', 'its outputs would change'),
    ('NaN', 'its outputs would change'), ('asserts', 'AssertionError: the usual order wanted'),
    ('views', 'RuntimeError: view size is not compatible'),
    ('small', 'it cannot be tried on noise (4, 3, 8, 8) (ValueError: 16 pixels wanted).')])
def test_what_cannot_be_stays_as_it_was_and_is_logged(logged, way, problem):
    torch.manual_seed(0)
    particular, other = Particular(way), Particular('ordinary')
    plain, cohort = copy.deepcopy(particular), Teaches(particular, other)
    cohort.to_channels_last(SMALL)
    assert is_last(particular.convolution.weight) == (problem is None) and is_last(other.convolution.weight)
    assert len(logged) == (problem is not None)
    if problem is not None:
        assert logged[0].startswith(f'Teacher network 1 is not put into channels_last: {problem}')
        assert torch.equal(cohort(SMALL)[0], plain(nn.functional.interpolate(SMALL, size=16))['maps'][0])


def test_in_inference_mode_weights_are_ordinary_tensors():
    particular = Particular('ordinary')
    cohort = Teaches(particular)
    with torch.inference_mode():
        cohort.to_channels_last(SMALL)
    assert is_last(particular.convolution.weight)
    assert not any(tensor.is_inference() for tensor in cohort.state_dict().values())


def test_a_network_whose_maps_are_read_does_not_change(tmp_path, logged):
    model, seen = taught(tmp_path, 3, 1), []
    model.cohort.networks[1].backbone.conv1.register_forward_hook(
        lambda module, inputs, output: seen.append(output))
    for _ in range(2):  # prepared once
        model.teacher_logits(SMALL)
        assert logged == ['Teacher network 2 is not put into channels_last: forward hooks of backbone.conv1 '
                          'read what it computes, or make its weights.']
    assert [in_channels_last(member) for member in model.cohort.networks] == [{True}, {False}]
    assert torch.equal(seen[0], network(TEACHER, 1).backbone.conv1(SMALL)) and not is_last(seen[0])


# ---------------------------------------------------------------- as teachers
FEATURES = feature_distiller('backbone.layer1.1.conv2', channels=None, div_element=False)


def taught(folder, *epochs, **settings) -> CheckpointDistill:
    cohort = cohort_of(folder, *epochs)
    torch.manual_seed(1)
    return CheckpointDistill(with_statistics(resnet(2)), cohort, **settings)


def test_teachers_are_in_channels_last_when_they_first_teach(tmp_path):
    """On a CPU, and nothing but their memory layout changes; one of them is still an ensemble of one."""
    model = taught(tmp_path, 3, 1)
    cohort = model.cohort
    baseline = SnapshotEnsemble([dict(trajectory=str(tmp_path), epoch=epoch) for epoch in (3, 1)])
    before = copy.deepcopy(cohort.state_dict())
    assert in_channels_last(cohort) == {False}
    logits, expected = model.teacher_logits(SMALL), baseline(SMALL)
    assert in_channels_last(cohort) == {True}
    assert in_channels_last(baseline) == in_channels_last(model) == {False}
    assert list(cohort.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in cohort.state_dict().items())
    assert_close(logits, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert torch.equal(model.teacher_logits(SMALL), logits)
    assert torch.equal(taught(tmp_path, 3).teacher_logits(SMALL), logits[:1])
    assert not any(parameter.requires_grad for parameter in cohort.parameters())


def test_neither_the_first_batch_nor_autocast_nor_random_numbers_matter(tmp_path):
    """A resumed run builds its teachers before another batch, and must compute the same."""
    models = [taught(tmp_path, 3) for _ in range(3)]
    models[0].teacher_logits(SMALL[:1])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        models[1].teacher_logits(SMALL)
    assert models[2].cohort is not None
    state = torch.get_rng_state()
    models[2].teacher_logits(SMALL)
    assert torch.equal(torch.get_rng_state(), state)
    for model in models:
        assert in_channels_last(model.cohort) == {True}
        assert torch.equal(model.teacher_logits(SMALL), models[0].teacher_logits(SMALL))


def test_where_a_distiller_reads_nothing_changes(tmp_path):
    """Its losses are those of the teacher as it is in the file, bit for bit."""
    model = taught(tmp_path, 3, distiller=FEATURES).train()
    data = model.data_preprocessor(batch(), training=True)
    seen = {}
    for name, net in dict(teacher=network(TEACHER, 3), student=copy.deepcopy(model.student)).items():
        net.backbone.layer1[1].conv2.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output}))
        net(data['inputs'])
    losses = model.loss(**data)
    assert in_channels_last(model.cohort) == {False}
    distance = (seen['student'] - seen['teacher']).square().sum().item()
    assert losses['loss_feature'].item() == distance / len(data['inputs'])


def test_recorders_of_methods_do_not_see_the_noise(tmp_path):
    """They record a class, so any network that runs meanwhile. The noise has four images, the batch six."""
    neck = dict(type='MethodOutputs', source='mmpretrain.models.necks.gap.GlobalAveragePooling.forward')
    first = dict(recorder='neck', record_idx=0, data_idx=0)
    mapping = dict(s_feature=dict(first, from_student=True), t_feature=dict(first, from_student=False))
    model = taught(tmp_path, 3, distiller=dict(FEATURES, student_recorders=dict(neck=neck),
                                               teacher_recorders=dict(neck=neck),
                                               loss_forward_mappings=dict(loss_feature=mapping))).train()
    model.to_channels_last()
    data = model.data_preprocessor(batch(), training=True)
    student = copy.deepcopy(model.student)  # in train mode, as it is then
    loss = model.loss(**data)['loss_feature'].item()
    assert is_last(model.cohort.networks[0].backbone.conv1.weight)
    given, wanted = (net.extract_feat(data['inputs'])[0] for net in (student, network(TEACHER, 3)))
    assert loss == pytest.approx((given - wanted).square().sum().item() / len(data['inputs']), rel=1e-4)


@pytest.mark.parametrize('use', [None, [0]], ids=['all', 'a head alone'])
def test_a_teacher_with_heads_too(tmp_path, use):
    """Its own logits are bit for bit those of the snapshot that teaches alone, both in channels_last."""
    snapshot = trajectory(tmp_path, model=with_statistics(resnet(3))).at(2)
    heads = HeadTraining(snapshot, (0, 1), (3, 8, 8)).write(tmp_path / 'heads.pth')
    cohort, plain = DIHTeacher(snapshot, heads.file, use), SnapshotEnsemble([snapshot])
    expected = cohort(SMALL)
    cohort.to_channels_last(SMALL)
    plain.to_channels_last(SMALL)
    logits = cohort(SMALL)
    assert in_channels_last(cohort) == {True}
    assert_close(logits, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    if use is None:
        assert torch.equal(logits[2:], plain(SMALL))


# the last one: where torch compiles before its first backward pass, other tests can no longer fork processes
def test_it_comes_before_compiling(tmp_path):
    graphs = []
    model = taught(tmp_path, 3, compile=dict(backend=graphs_of_compiler(graphs)))
    logits = model.teacher_logits(SMALL.contiguous(memory_format=torch.channels_last))
    maps = [given for _, inputs in graphs for given in inputs if given.dim() == 4 and wide(given)]
    assert maps and all(map(is_last, maps))
    assert_close(logits, taught(tmp_path, 3).teacher_logits(SMALL), rtol=1e-5, atol=1e-5)
    torch._dynamo.reset()
