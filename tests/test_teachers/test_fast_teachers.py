"""Teachers made fast: convolution and BatchNorm as one, and channels side by side; the same outputs but for
rounding."""

import contextlib
import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn
from torch.testing import assert_close

from ckd_mm.students import CheckpointDistill
from ckd_mm.teachers import BaseCohort, DIHTeacher, HeadTraining, SnapshotEnsemble
from ckd_mm.teachers.fused import fuse_conv_bn
from ckd_mm.teachers.rearranged import rearrange
from ckd_mm.teachers.trial import Trial, trial_images
from ckd_mm.trajectory import write_snapshot

from ..conftest import resnet
from ..helpers import TEACHER, batch, is_last, network, trajectory, vision_transformer, with_statistics

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(4))
SMALL = IMAGES[:, :, :8, :8]


def classifier(channels: int, **backbone) -> dict:
    return with_statistics(
        dict(type='ImageClassifier', backbone=backbone, neck=dict(type='GlobalAveragePooling'),
             head=dict(type='LinearClsHead', num_classes=10, in_channels=channels)))


def fuse(module: nn.Module, images: torch.Tensor) -> tuple:
    """How many BatchNorm layers are gone, and how many are refused."""
    fused, refused = fuse_conv_bn(Trial(module, images))
    return fused, len(refused)


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


# layers, those that go, and those that stay though they follow a convolution. In a pre-activation network
# others stand behind an addition or a concatenation; where the width of a stage does not change, its first
# input is normalised and added
NETWORKS = dict(resnet=(resnet(2), 10, 10, 0), bottleneck=(classifier(64, type='ResNet', depth=50,
                                       stem_channels=8, base_channels=2, expansion=4), 52, 52, 0),
                wide_resnet=(classifier(128, type='ckd_mm.WideResNet', depth=10, widen_factor=2), 7, 4, 0),
                narrow_wide_resnet=(classifier(64, type='ckd_mm.WideResNet', depth=10,
                                               widen_factor=1), 7, 3, 1),
                densenet=(classifier(28, type='ckd_mm.DenseNetCIFAR', depth=7, growth_rate=4), 6, 0, 1),
                bottleneck_densenet=(classifier(16, type='DenseNet', arch=dict(growth_rate=4, depths=[2, 2],
                                                          init_channels=8)), 11, 5, 0),
                mobilenet=(classifier(1280, type='MobileNetV2', widen_factor=0.25), 52, 52, 0),
                resnext=(classifier(64, type='ResNeXt', depth=50, groups=2, width_per_group=4,
                                    base_channels=2, stem_channels=8), 52, 52, 0),
                transformer=(vision_transformer(), 0, 0, 0))


@pytest.mark.parametrize('name', NETWORKS)
def test_outputs_stay_and_layers_go(name):
    model, layers, pairs, left = NETWORKS[name]
    images = SMALL if name == 'transformer' else IMAGES
    plain = network(model, 3)
    fused = copy.deepcopy(plain)
    names = [part for part, _ in fused.named_modules()]
    assert norms(plain) == layers
    with torch.no_grad():
        assert fuse(fused, images[:2]) == (pairs, left)
        expected = plain(images)
        assert_close(fused(images), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert norms(fused) == layers - pairs
    assert [part for part, _ in fused.named_modules()] == names
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in fused.modules())


def test_one_convolution_by_hand():
    layer = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)).eval()
    for tensor, value in zip(
        [*layer[0].parameters(), layer[1].weight, layer[1].bias, layer[1].running_mean, layer[1].running_var],
        (3.0, 1.0, 10.0, 7.0, 2.0, 4.0)):
        tensor.data.fill_(value)
    assert fuse(layer, torch.randn(2, 1, 3, 3)) == (1, 0)
    # 10 (3 x + 1 - 2) / sqrt(4) + 7
    assert (layer[0].weight.item(), layer[0].bias.item()) == (15.0, 2.0) and isinstance(layer[1], nn.Identity)
    assert not layer[0].weight.requires_grad


class Odd(nn.Module):
    """Two convolutions and two BatchNorm layers, the layers registered in an order that says nothing."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.first, self.second = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1)
        self.one, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        for norm in (self.one, self.other):
            for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
                tensor.normal_()
            norm.running_var.uniform_(0.5, 2.0)
        self.eval()

    def forward(self, images):
        if self.way == 'crossed':
            return self.one(self.second(self.other(self.first(images))))
        if self.way == 'before':
            return self.second(self.one(self.first(self.other(images))))
        if self.way == 'read twice':
            convolved = self.first(images)
            return self.one(convolved) + convolved
        if self.way == 'called twice':
            return self.one(self.first(self.one(self.first(images))))
        if self.way == 'normalised twice':
            convolved = self.first(images)
            return self.second(self.one(convolved) + self.other(convolved))
        if self.way == 'by name':
            return self.one(input=self.first(images)) + self.other(input=self.second(images))
        return self.one(self.first(images)) + self.other(self.first(images))


@pytest.mark.parametrize('way, pairs, left', [('crossed', 2, 0), ('before', 1, 1), ('called twice', 0, 2),
                                              ('shared', 0, 2), ('normalised twice', 0, 2),
                                              ('by name', 2, 0)])
def test_the_pass_says_what_follows_what(way, pairs, left):
    torch.manual_seed(0)
    plain = Odd(way)
    fused = copy.deepcopy(plain)
    assert fuse(fused, IMAGES[:2]) == (pairs, 0)
    assert norms(fused) == left
    assert_close(fused(IMAGES), plain(IMAGES), rtol=1e-5, atol=1e-5)


def test_a_tensor_that_is_read_twice_is_left_alone():
    """Also by the addition: the network is put back, bit for bit."""
    torch.manual_seed(0)
    plain = Odd('read twice')
    tried = copy.deepcopy(plain)
    assert fuse(tried, IMAGES[:2]) == (0, 1) and norms(tried) == 2
    assert torch.equal(tried(IMAGES), plain(IMAGES))
    assert list(tried.state_dict()) == list(plain.state_dict())


class Gate(nn.Module):
    """What a convolution returned is read twice, the second time only of bright images."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.convolution.bias.data.fill_(-4.0)
        self.norm.weight.data.uniform_(1, 3)

    def forward(self, images):
        convolved = self.convolution(images)
        return self.norm(convolved) + torch.relu(convolved)


def test_what_only_bright_images_show():
    """Noise of the size of normalised images alone would not tell."""
    torch.manual_seed(0)
    plain, tried = Gate().eval(), []
    for images in (IMAGES[:2], trial_images(IMAGES)):
        tried.append(fuse(copy.deepcopy(plain), images))
    assert tried == [(1, 0), (0, 1)]


def test_weights_made_of_others_are_left_alone():
    layer = nn.Sequential(torch.nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 3, 1)),
                          nn.BatchNorm2d(3)).eval()
    before = layer(IMAGES)
    assert fuse(layer, IMAGES[:2]) == (0, 0)
    assert torch.equal(layer(IMAGES), before)


class Chain(nn.Module):
    """Convolution, something in place, BatchNorm, thirty times; the convolutions named in ``read`` are read
    twice."""

    def __init__(self, between=lambda maps: maps, read=()) -> None:
        super().__init__()
        self.between, self.read, self.passes = between, read, 0
        self.convolutions = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(30))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(30))
        for norm in self.norms:
            norm.running_mean.normal_(0, 0.3)
        self.eval()

    def forward(self, maps):
        self.passes += 1
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms)):
            convolved = convolution(maps)
            maps = norm(self.between(convolved)) + (convolved if index in self.read else 0)
        return maps


def test_what_is_changed_in_place_before_it_is_normalised():
    """The same tensor, and no longer what the convolution returned: nothing is tried."""
    torch.manual_seed(0)
    chain = Chain(between=torch.relu_)
    assert fuse(chain, IMAGES[:2]) == (0, 0) and chain.passes == 2


def test_the_one_that_cannot_be_fused_is_found_by_halves():
    torch.manual_seed(0)
    chain = Chain(read=(28, ))
    plain = copy.deepcopy(chain)
    assert fuse(chain, IMAGES[:2]) == (29, 1)
    assert [index for index, norm in enumerate(chain.norms) if isinstance(norm, nn.BatchNorm2d)] == [28]
    assert chain.passes <= 2 + 1 + 2 * 5  # as they are, all, and of each half both halves: 30, 15, 8, 4, 2, 1
    assert_close(chain(IMAGES), plain(IMAGES), rtol=1e-4, atol=1e-5)


def test_a_network_where_nothing_can_be_fused_takes_few_passes():
    """Sixteen splits, two tries each."""
    torch.manual_seed(0)
    chain = Chain(read=range(30))
    before = chain(IMAGES)
    chain.passes = 0
    fused, refused = fuse(chain, IMAGES[:2])
    assert fused + refused == 30 and refused > 20 and chain.passes <= 2 + 1 + 2 * 16
    assert_close(chain(IMAGES), before, rtol=1e-3, atol=1e-3)


class NormAndMore(nn.BatchNorm2d):

    def forward(self, maps):
        return super().forward(maps).relu()


def test_a_layer_that_does_more_than_to_normalise_is_not_tried():
    torch.manual_seed(0)
    chain = Chain()
    chain.norms = nn.ModuleList(NormAndMore(3) for _ in range(30)).eval()
    assert fuse(chain, IMAGES[:2]) == (0, 0) and chain.passes == 2


def test_weights_are_multiplied_on_the_cpu(monkeypatch):
    """Not every device has float64: of a tensor only its copy on the CPU may become one."""
    torch.manual_seed(0)
    here, cpu, double = [], torch.Tensor.cpu, torch.Tensor.double

    def arrive(tensor):
        here.append(cpu(tensor).clone())
        return here[-1]

    def checked(tensor):
        assert any(tensor is arrived for arrived in here)
        return double(tensor)

    monkeypatch.setattr(torch.Tensor, 'cpu', arrive)
    monkeypatch.setattr(torch.Tensor, 'double', checked)
    assert fuse(Odd('crossed'), IMAGES[:2]) == (2, 0)


# ---------------------------------------------------------------- networks that stumble
class Particular(nn.Module):
    """Fails in one way once something in it was changed, or always."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.convolution, self.norm = way, nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.norm.running_mean.normal_()
        self.eval().requires_grad_(False)

    def forward(self, images):
        if self.way == 'never' or self.way == 'small' and images.shape[-1] != 16:
            raise ValueError('16 pixels wanted')
        if self.way == 'interrupted' and self.fused:
            raise KeyboardInterrupt
        maps = self.norm(self.convolution(images))
        if self.way == 'asserts':
            assert maps.is_contiguous(), 'the usual order wanted'
        if self.way == 'reads':
            maps = maps.to(self.norm.weight.dtype)
        return maps.mean(dim=(2, 3))

    @property
    def fused(self) -> bool:
        return isinstance(self.norm, nn.Identity)


class Teaches(BaseCohort):
    """Networks without configs, which teach as they are given."""

    def __init__(self, *networks: nn.Module, size: int = None) -> None:
        super().__init__()
        self.networks, self.size = nn.ModuleList(networks), size
        self.freeze()

    def teacher_logits(self, inputs):
        images = inputs if self.size is None else nn.functional.interpolate(inputs, size=self.size)
        return [network(images) for network in self.networks]


@pytest.fixture
def said(monkeypatch):
    """What a cohort writes into the log."""
    found = []
    monkeypatch.setattr('ckd_mm.teachers.base_cohort.print_log',
                        lambda message, logger: found.append(message))
    return found


FUSED, LAST = '1 BatchNorm layers have become part of the convolutions before them', 'its weights are in channels_last'


@pytest.mark.parametrize('way, fused, last, log', [
    ('reads', False, True, f"made faster: {LAST}; 1 BatchNorm layers stay behind their convolutions "
                           "(AttributeError: 'Identity' object has "
     "no attribute 'weight')."),
    ('asserts', True, False, f'made faster: {FUSED}; its weights cannot be in channels_last '
                             '(AssertionError: the usual order wanted).'),
    ('small', False, False, 'as slow as before: it cannot be tried on noise (4, 3, 8, 8) (ValueError: 16 '
                            'pixels wanted).')])
def test_what_a_network_stumbles_over_is_left_alone_and_said(said, way, fused, last, log):
    torch.manual_seed(0)
    particular = Particular(way)
    plain, cohort = copy.deepcopy(particular), Teaches(particular, size=16).only_teach()
    assert_close(cohort(SMALL)[0], plain(nn.functional.interpolate(SMALL, size=16)), rtol=1e-5, atol=1e-5)
    assert particular.fused == fused and is_last(particular.convolution.weight) == last
    cohort(SMALL)
    assert said == [f'Network 1 of the teachers, {log}']


def test_what_always_fails_fails_as_it_would_have(said):
    with pytest.raises(ValueError, match='16 pixels wanted'):
        Teaches(Particular('never')).only_teach()(SMALL)


def test_interrupted_in_the_middle_it_is_as_before():
    """And tried again when the teachers are asked again."""
    torch.manual_seed(0)
    particular = Particular('interrupted')
    before, cohort = copy.deepcopy(particular), Teaches(particular).only_teach()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            cohort(SMALL)
        assert not particular.fused and torch.equal(particular(SMALL), before(SMALL))


def test_all_trials_are_exact_and_the_teaching_is_as_it_was(monkeypatch):
    """Under TF32 the outputs of a MobileNetV2 differ by a hundredth."""
    exact, seen = [], []

    @contextlib.contextmanager
    def noted(device_type):
        exact.append(device_type)
        yield
        exact.pop()

    monkeypatch.setattr('ckd_mm.teachers.base_cohort.exact_convolutions', noted)
    particular = Particular('plain')
    forward = particular.forward
    monkeypatch.setattr(particular, 'forward', lambda images: (seen.append(list(exact)), forward(images))[1])
    Teaches(particular).only_teach()(SMALL)
    assert seen == [['cpu']] * 4 + [[]]  # as it is, listened to, fused, rearranged; and then it teaches


def test_in_inference_mode_weights_are_ordinary_tensors():
    particular = Particular('plain')
    cohort = Teaches(particular).only_teach()
    with torch.inference_mode():
        cohort(SMALL)
    assert particular.fused and not any(tensor.is_inference() for tensor in cohort.state_dict().values())


# ---------------------------------------------------------------- channels side by side
@pytest.mark.parametrize('name', NETWORKS)
def test_weights_are_rearranged_and_outputs_stay(name):
    images = SMALL if name == 'transformer' else IMAGES
    plain = network(NETWORKS[name][0], 3)
    rearranged, maps = copy.deepcopy(plain), []
    weights = [part.weight for part in rearranged.modules() if isinstance(part, nn.Conv2d)]
    for part in rearranged.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda module, inputs, output: maps.append(output))
    assert rearrange(Trial(rearranged, images[:2])) is None
    maps.clear()
    with torch.no_grad():
        expected = plain(images)
        assert_close(rearranged(images), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    wide = [weight for weight in weights if weight.shape[1] > 1 and weight.shape[2] > 1]
    assert wide and all(map(is_last, wide))
    assert all(is_last(found)
               for found in maps if found.shape[1] > 1 and found.shape[2] > 1) and len(maps) == len(weights)


def test_a_network_that_views_its_maps_is_put_back():
    """VGG with its fully connected layers views the last map as a row."""
    model = with_statistics(
        dict(type='ImageClassifier', backbone=dict(type='VGG', depth=11, num_classes=10),
             head=dict(type='ClsHead')))
    plain = network(model, 3).backbone
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        before = plain(images)[0]
        assert rearrange(Trial(plain, images)).startswith('RuntimeError: view size is not compatible')
        assert torch.equal(plain(images)[0], before) and not any(
            is_last(weight) for weight in plain.parameters() if weight.dim() == 4)


# ---------------------------------------------------------------- as teachers
RECORDER = dict(type='ModuleOutputs', source='backbone.layer1.1.conv2')
FEATURES = dict(
    type='ConfigurableDistiller', _scope_='mmrazor', student_recorders=dict(feature=RECORDER),
    teacher_recorders=dict(feature=dict(RECORDER, source='networks.0.backbone.layer1.1.conv2')),
    distill_losses=dict(loss_feature=dict(type='L2Loss', normalize=False)),
    loss_forward_mappings=dict(loss_feature=dict(s_feature=dict(recorder='feature', from_student=True),
                                                 t_feature=dict(recorder='feature', from_student=False))))


def taught(folder, *epochs, **settings) -> CheckpointDistill:
    if not (folder / 'trajectory.json').exists():
        trajectory(folder, model=TEACHER)
    torch.manual_seed(1)
    cohort = dict(type='ckd_mm.SnapshotEnsemble',
                  snapshots=[dict(trajectory=str(folder), epoch=epoch) for epoch in epochs])
    return CheckpointDistill(with_statistics(resnet(2)), cohort, **settings)


def test_teachers_are_fused_when_they_first_teach(tmp_path):
    model = taught(tmp_path, 3, 1)
    cohort, alone = model.cohort, SnapshotEnsemble(
        [dict(trajectory=str(tmp_path), epoch=epoch) for epoch in (3, 1)])
    names = [name for name, _ in cohort.named_modules()]
    assert norms(cohort) == norms(alone) == 20
    logits, expected = model.ask_teachers(SMALL), alone(SMALL)
    assert all(
        is_last(part.weight) for part in cohort.modules()
        if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3))
    assert norms(cohort) == 0 and norms(alone) == 20 and [name for name, _ in cohort.named_modules()] == names
    assert_close(logits, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert torch.equal(model.ask_teachers(SMALL), logits)
    assert not any(parameter.requires_grad for parameter in cohort.parameters())


def test_teachers_that_stay_as_they_are(tmp_path):
    model = taught(tmp_path, 3, fast_teachers=False)
    assert torch.equal(model.ask_teachers(SMALL)[0], model.cohort.snapshots[0].build()(SMALL))
    assert norms(model.cohort) == 10 and not any(
        is_last(part.weight) for part in model.cohort.modules() if isinstance(part, nn.Conv2d))


def test_one_teacher_is_an_ensemble_of_one_when_it_is_fused(tmp_path):
    both, alone = taught(tmp_path, 3, 1).ask_teachers(SMALL), taught(tmp_path, 3).ask_teachers(SMALL)
    assert torch.equal(both[:1], alone)


def test_the_size_of_the_first_batch_does_not_matter(tmp_path):
    """A run that is resumed builds its teachers before another batch, and must come to the same weights."""
    first, second = taught(tmp_path, 3), taught(tmp_path, 3)
    first.ask_teachers(SMALL[:1])
    second.ask_teachers(SMALL)
    assert torch.equal(first.ask_teachers(SMALL), second.ask_teachers(SMALL))


def test_the_random_state_stays(tmp_path):
    model = taught(tmp_path, 3)
    assert norms(model.cohort) == 10
    torch.manual_seed(5)
    model.ask_teachers(SMALL)
    drawn = torch.randn(3)
    torch.manual_seed(5)
    assert norms(model.cohort) == 0 and torch.equal(torch.randn(3), drawn)


def test_where_a_distiller_reads_nothing_is_fused(tmp_path):
    """Its losses are those of the plain teacher, bit for bit."""
    model = taught(tmp_path, 3, distiller=FEATURES).train()
    data = model.data_preprocessor(batch(), training=True)
    seen = {}
    plain, student = network(TEACHER, 3), copy.deepcopy(model.student)
    for name, net in dict(teacher=plain, student=student).items():
        net.backbone.layer1[1].conv2.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output}))
        net(data['inputs'])
    losses = model.loss(**data)
    assert norms(model.cohort) == 10 and not is_last(model.cohort.networks[0].backbone.conv1.weight)
    assert losses['loss_feature'].item() == (seen['student'] - seen['teacher']).square().sum().item() / len(
        data['inputs'])


def test_recorders_of_methods_do_not_see_the_trial(tmp_path):
    """They listen to a class, and so to whichever network is run while they do. The trial has four images,
    the batch six."""
    neck = dict(type='MethodOutputs', source='mmpretrain.models.necks.gap.GlobalAveragePooling.forward')
    first = dict(recorder='neck', record_idx=0, data_idx=0)
    mapping = dict(s_feature=dict(first, from_student=True), t_feature=dict(first, from_student=False))
    model = taught(tmp_path, 3, distiller=dict(FEATURES, student_recorders=dict(neck=neck),
                                  teacher_recorders=dict(neck=neck),
                                  loss_forward_mappings=dict(loss_feature=mapping))).train()
    model.rearrange_teachers()
    data = model.data_preprocessor(batch(), training=True)
    student = copy.deepcopy(model.student)  # in train mode, as it is then
    loss = model.loss(**data)['loss_feature'].item()
    assert is_last(model.cohort.networks[0].backbone.conv1.weight)
    given, wanted = (net.extract_feat(data['inputs'])[0] for net in (student, network(TEACHER, 3)))
    assert loss == pytest.approx((given - wanted).square().sum().item() / len(data['inputs']), rel=1e-4)


def test_where_somebody_looks_nothing_is_fused(tmp_path, said):
    model, seen = taught(tmp_path, 3, 1), []
    model.cohort.networks[1].backbone.conv1.register_forward_hook(
        lambda module, inputs, output: seen.append(output))
    model.ask_teachers(SMALL)
    assert [norms(member) for member in model.cohort.networks] == [0, 10]
    assert not is_last(seen[0])
    assert torch.equal(seen[0], network(TEACHER, 1).backbone.conv1(SMALL))
    assert said[1] == 'Network 2 of the teachers, as slow as before: forward hooks of backbone.conv1 look at what it computes (or make ' \
        'weights there).'


def test_a_network_that_cannot_be_fused_whole_is_named(tmp_path, monkeypatch, said):
    """The stem's convolution is added to what comes out of the first stage; the other teacher is an ordinary
    one."""
    model, seen = taught(tmp_path, 3, 1), {}
    backbone = model.cohort.networks[0].backbone
    convolve, stage = backbone.conv1.forward, backbone.layer1.forward
    monkeypatch.setattr(backbone.conv1, 'forward',
                        lambda images: seen.setdefault(len(images), convolve(images)))
    monkeypatch.setattr(backbone.layer1, 'forward', lambda maps: stage(maps) + seen.pop(len(maps)))
    expected = model.cohort.networks[0](SMALL)
    assert_close(model.ask_teachers(SMALL)[0], expected, rtol=1e-5, atol=1e-5)
    assert [norms(member) for member in model.cohort.networks] == [1, 0]
    assert len(said) == 2 and '9 BatchNorm layers have become part' in said[0]
    assert '; 1 BatchNorm layers stay behind their convolutions (its outputs would change).' in said[0]
    assert said[1] == 'Network 2 of the teachers, made faster: 10 BatchNorm layers have become part of the convolutions before them; ' \
        'its weights are in channels_last.'


def test_feature_maps_stay_and_the_teacher_of_heads_says_the_same(tmp_path):
    """A DIHTeacher's own logits are bit for bit those of the snapshot that teaches alone, both fused."""
    snapshot = trajectory(tmp_path, model=with_statistics(resnet(3))).at(2)
    heads = HeadTraining(snapshot, (0, 1), (3, 8, 8)).write(tmp_path / 'heads.pth')
    cohort = DIHTeacher(snapshot, heads.file)
    plain = cohort(SMALL)
    model = CheckpointDistill(with_statistics(resnet(1)), cohort)
    fused = model.ask_teachers(SMALL)
    assert norms(cohort) == 0 and fused.shape == (3, 6, 10)
    assert_close(fused, plain, rtol=0, atol=1e-5 * plain.abs().max().item())
    alone = CheckpointDistill(with_statistics(resnet(1)),
                              dict(type='ckd_mm.SnapshotEnsemble', snapshots=[str(snapshot.file)]))
    assert torch.equal(fused[2:], alone.ask_teachers(SMALL))


def test_heads_alone_are_fused_up_to_the_deepest(tmp_path):
    snapshot = trajectory(tmp_path, model=with_statistics(resnet(3))).at(2)
    heads = HeadTraining(snapshot, (0, 1), (3, 8, 8)).write(tmp_path / 'heads.pth')
    cohort = DIHTeacher(snapshot, heads.file, use=[0])
    plain = cohort(SMALL)
    fused = CheckpointDistill(with_statistics(resnet(1)), cohort).ask_teachers(SMALL)
    assert norms(cohort) == 0
    assert_close(fused, plain, rtol=0, atol=1e-5 * plain.abs().max().item())


def test_autocast_does_not_hide_a_mistake_nor_make_one(tmp_path):
    """Fused inside autocast the weights are those that are fused outside of it."""
    inside, outside = taught(tmp_path, 3), taught(tmp_path, 3)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside.ask_teachers(SMALL)
    outside.ask_teachers(SMALL)
    assert norms(inside.cohort) == 0 and torch.equal(inside.ask_teachers(SMALL), outside.ask_teachers(SMALL))


def test_a_teacher_of_other_networks_file_and_its_student_learn_alike(tmp_path):
    """Three steps with fused teachers and with plain ones end in the same weights, but for rounding."""
    file = write_snapshot(tmp_path / 'teacher.pth', network(TEACHER, 8).state_dict(), epoch=1, iteration=1,
                          lr=None, model=TEACHER, classes=None).file
    found = []
    for looks in (False, True):
        torch.manual_seed(2)
        model = CheckpointDistill(with_statistics(resnet(1)),
                                  dict(type='ckd_mm.SnapshotEnsemble', snapshots=[str(file)])).train()
        if looks:
            model.cohort.networks[0].backbone.register_forward_hook(lambda *_: None)
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
        for step in range(3):
            model.train_step(batch(seed=step), wrapper)
        assert norms(model.cohort) == (10 if looks else 0)
        found.append(model.state_dict())
    for name, value in found[0].items():
        assert_close(value, found[1][name], rtol=1e-4, atol=1e-5)


# the last one: where torch compiles before its first backward pass, processes can no longer be forked, as
# other tests do
def test_fusing_comes_before_compiling(tmp_path):
    codes = []

    def backend(graph, example_inputs):
        codes.append(graph.code)
        return graph.forward

    model = taught(tmp_path, 3, compile=dict(backend=backend))
    logits = model.ask_teachers(SMALL)
    assert codes and 'conv' in ''.join(codes) and 'batch_norm' not in ''.join(codes)
    assert_close(logits, taught(tmp_path, 3).ask_teachers(SMALL), rtol=1e-5, atol=1e-5)
    torch._dynamo.reset()
