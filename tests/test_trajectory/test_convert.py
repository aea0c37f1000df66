"""Files of the distillation repositories: converted networks compute what the originals do."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ckd_mm.errors import CkdError, ConfigError, SnapshotError
from ckd_mm.teachers import SnapshotEnsemble
from ckd_mm.trajectory import Trajectory
from ckd_mm.trajectory.convert import convert_checkpoint, convert_state_dict

from ..helpers import with_statistics
from ..test_backbones.test_backbones import classifier


# ---------------------------------------------------------------- the originals, by their definitions
class Conv(nn.Conv2d):

    def __init__(self, before, after, kernel=3, stride=1):
        super().__init__(before, after, kernel, stride, kernel // 2, bias=False)


class TheirBasicBlock(nn.Module):

    def __init__(self, before, after, stride, shortcut):
        super().__init__()
        self.conv1, self.bn1 = Conv(before, after, 3, stride), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = Conv(after, after), nn.BatchNorm2d(after)
        self.subsample = stride > 1 and shortcut == 'A'
        self.downsample = None
        if stride > 1 and shortcut == 'B':
            self.downsample = nn.Sequential(Conv(before, after, 1, stride), nn.BatchNorm2d(after))

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        if self.subsample:
            quarter = torch.zeros_like(y[:, :y.size(1) // 4])
            x = torch.cat([quarter, x[:, :, ::2, ::2], quarter], dim=1)
        elif self.downsample is not None:
            x = self.downsample(x)
        return (x + y).relu()


class TheirResNet(nn.Module):
    """A for the code of CheckpointKD's authors, whose classifier is called linear; B for RepDistiller and
    mdistiller."""

    def __init__(self, depth, shortcut='B', classes=10):
        super().__init__()
        self.conv1, self.bn1 = Conv(3, 16), nn.BatchNorm2d(16)
        for stage, (before, after, stride) in enumerate(((16, 16, 1), (16, 32, 2), (32, 64, 2)), 1):
            blocks = [TheirBasicBlock(before, after, stride, shortcut)]
            blocks += [TheirBasicBlock(after, after, 1, shortcut) for _ in range((depth - 2) // 6 - 1)]
            self.add_module(f'layer{stage}', nn.Sequential(*blocks))
        self.head = 'linear' if shortcut == 'A' else 'fc'
        self.add_module(self.head, nn.Linear(64, classes))

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)).relu())))
        return getattr(self, self.head)(F.avg_pool2d(x, 8).flatten(1))


class TheirWideBlock(nn.Module):

    def __init__(self, before, after, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(before), Conv(before, after, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(after), Conv(after, after)
        self.convShortcut = Conv(before, after, 1, stride) if before != after else None

    def forward(self, x):
        active = self.bn1(x).relu()
        y = self.conv2(self.bn2(self.conv1(active)).relu())
        return y + (self.convShortcut(active) if self.convShortcut else x)


class TheirWRN(nn.Module):

    def __init__(self, depth, k, classes=10):
        super().__init__()
        self.conv1 = Conv(3, 16)
        widths = ((16, 16 * k, 1), (16 * k, 32 * k, 2), (32 * k, 64 * k, 2))
        for stage, (before, after, stride) in enumerate(widths, 1):
            blocks = [TheirWideBlock(before, after, stride)]
            blocks += [TheirWideBlock(after, after, 1) for _ in range((depth - 4) // 6 - 1)]
            self.add_module(f'block{stage}', nn.Module())
            getattr(self, f'block{stage}').layer = nn.Sequential(*blocks)
        self.bn1, self.fc = nn.BatchNorm2d(64 * k), nn.Linear(64 * k, classes)

    def forward(self, x):
        x = self.block3.layer(self.block2.layer(self.block1.layer(self.conv1(x))))
        return self.fc(F.avg_pool2d(self.bn1(x).relu(), 8).flatten(1))


def trained(network: nn.Module) -> nn.Module:
    """With random weights and statistics instead of those it begins with."""
    torch.manual_seed(5)
    for key, value in network.state_dict().items():
        if key.endswith('running_var') or value.dim() == 1 and key.endswith('weight'):
            value.uniform_(0.5, 1.5)
        elif value.dim() == 1:
            value.normal_(0, 0.3)
    return network.eval()


NETWORKS = {
    'resnet': (lambda: TheirResNet(14), classifier('CIFARResNet', 64, 10, depth=14)),
    'resnet of the authors': (lambda: TheirResNet(8, 'A'),
                              classifier('CIFARResNet', 64, 10, depth=8, shortcut='A')),
    'wrn': (lambda: TheirWRN(16, 2), classifier('WideResNet', 128, 10, depth=16, widen_factor=2)),
    'wrn of width 1': (lambda: TheirWRN(10, 1), classifier('WideResNet', 64, 10, depth=10, widen_factor=1))}
# what their files hold; those of mdistiller are of students, those of the authors of DataParallel
FILES = dict(
    repdistiller=lambda weights: dict(epoch=240, model=weights, best_acc=torch.tensor(75.6), optimizer={}),
    mdistiller=lambda weights: dict(model=weights), bare=lambda weights: weights,
    authors=lambda weights: dict(epoch=240, model_state={f'module.{key}': weights[key] for key in weights}),
    before_torch_041=lambda weights: dict(
        model={key: weights[key] for key in weights if 'num_batches' not in key}))


@pytest.fixture(params=NETWORKS)
def pair(request):
    make, model = NETWORKS[request.param]
    return trained(make()), with_statistics(model)


def assert_same_logits(theirs: nn.Module, ours: nn.Module) -> None:
    images = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        expected, found = theirs(images), ours(images)
    assert expected.std() > 0.05
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- what fits
@pytest.mark.parametrize('file', FILES)
def test_converted_network_gives_the_logits_of_the_original(pair, file, tmp_path):
    theirs, model = pair
    torch.save(FILES[file](theirs.state_dict()), tmp_path / 'theirs.pth',
               _use_new_zipfile_serialization=file != 'repdistiller')
    before = copy.deepcopy(model)
    convert_checkpoint(tmp_path / 'theirs.pth', model, tmp_path / 'ours', epoch=240)
    assert model == before
    snapshot = Trajectory.open(tmp_path / 'ours').at(240)
    assert_same_logits(theirs, snapshot.build())


def test_every_weight_is_used_once(pair):
    theirs, _ = pair
    converted = convert_state_dict(theirs.state_dict())
    assert [value.data_ptr() for value in converted.values()] == [
        value.data_ptr() for value in theirs.state_dict().values()]


def test_tool_makes_a_trajectory_that_teaches(tool, tmp_path):
    model = with_statistics(NETWORKS['resnet'][1])
    (tmp_path / 'config.py').write_text(f"default_scope = 'mmpretrain'\nmodel = {model!r}\n"
                                        f"teacher = dict(model={model!r})\n")
    for epoch in (120, 240):
        torch.manual_seed(epoch)
        network = TheirResNet(14).eval()
        torch.save(dict(epoch=epoch, model=network.state_dict()), tmp_path / f'ckpt_epoch_{epoch}.pth')
        options = ['--teacher'] if epoch == 240 else []
        status, out, _ = tool('convert_checkpoint.py', tmp_path / f'ckpt_epoch_{epoch}.pth',
                              tmp_path / 'config.py', tmp_path / 'r14', *options)
        assert status == 0 and out.startswith(f'Written: {tmp_path / "r14"}/epoch_{epoch}.pth, ')
    assert Trajectory.open(tmp_path / 'r14').times == [120, 240]
    ensemble = SnapshotEnsemble(
        [dict(trajectory=str(tmp_path / 'r14'), epoch=120), dict(trajectory=str(tmp_path / 'r14'))])
    assert_same_logits(network, ensemble.networks[1])
    (tmp_path / 'empty.py').write_text('')
    status, _, err = tool('convert_checkpoint.py', tmp_path / 'ckpt_epoch_120.pth', tmp_path / 'empty.py',
                          tmp_path / 'x', '--teacher')
    assert status == 1 and err.startswith('error: ') and 'has no `teacher.model`' in err
    assert not (tmp_path / 'x').exists()


# ---------------------------------------------------------------- what does not
def without(key):
    return lambda weights: {name: value for name, value in weights.items() if name != key}


def also(key, shape=(1, )):
    return lambda weights: dict(weights, **{key: torch.zeros(shape)})


@pytest.mark.parametrize(('network', 'damage', 'message'), [
    ('resnet', without('layer2.0.conv1.weight'), '1 weights missing, first: backbone.layer2.0.conv1.weight'),
    ('resnet', without('bn1.num_batches_tracked'), 'missing, first: backbone.bn1.num_batches_tracked'),
    ('wrn', without('block3.layer.0.convShortcut.weight'), 'first: backbone.layer3.0.shortcut.weight'),
    ('resnet', also('layer4.0.conv1.weight'), "'layer4.0.conv1.weight' is no weight of a CIFAR resnet"),
    ('resnet', also('layer1.0.conv3.weight'), "'layer1.0.conv3.weight' is no weight of a CIFAR resnet"),
    ('wrn', also('layer1.0.conv1.weight'), "'layer1.0.conv1.weight' is no weight of a CIFAR wrn"),
    ('resnet', also('student.conv1.weight'), r"'student.conv1.weight' .* \(mdistiller: student_\*\)"),
    ('resnet', also('linear.bias', 10), "'linear.bias' is there twice under two names, as 'head.fc.bias'"),
    ('resnet', also('module.conv1.weight'), "'module.conv1.weight' is there twice"),
    ('resnet', also('layer1.7.conv1.weight'), '1 weights unknown, first: backbone.layer1.7.conv1.weight'),
    ('resnet', also('fc.bias', (100, )), r'first: head.fc.bias is \(100,\), expected \(10,\)'),
    ('resnet of the authors', also('layer2.0.downsample.0.weight'),
     '1 weights unknown, first: backbone.layer2.0.downsample.0.weight')])
def test_weights_that_do_not_fit_are_one_line(network, damage, message, tmp_path):
    make, model = NETWORKS[network]
    torch.save(dict(epoch=3, model=damage(make().state_dict())), tmp_path / 'theirs.pth')
    with pytest.raises(SnapshotError, match=message) as caught:
        convert_checkpoint(tmp_path / 'theirs.pth', model, tmp_path / 'ours')
    assert '\n' not in str(caught.value) and not (tmp_path / 'ours').exists()


def test_files_that_cannot_be_converted(tmp_path):
    make, model = NETWORKS['wrn of width 1']
    (tmp_path / 'text.pth').write_text('hello')
    torch.save([1, 2], tmp_path / 'list.pth')
    torch.save(dict(model=make().state_dict()), tmp_path / 'student_best')
    for name, message in (('none.pth', 'checkpoint .*none.pth does not exist'),
                          ('text.pth', 'checkpoint .*text.pth cannot be read'),
                          ('list.pth', 'checkpoint .*list.pth holds no state dict'),
                          ('student_best', r'epoch=None should be .* which .*student_best .*\(--epoch\)')):
        with pytest.raises(CkdError, match=message):
            convert_checkpoint(tmp_path / name, model, tmp_path)
    (tmp_path / 'trajectory.json').write_text('{}')
    with pytest.raises(ConfigError, match='holds the trajectory of a run'):
        convert_checkpoint(tmp_path / 'student_best', model, tmp_path, epoch=1)


class Bomb:

    def __reduce__(self):
        return exec, ("raise SystemExit('executed')", )


def test_nothing_in_a_file_is_executed(tmp_path):
    make, model = NETWORKS['wrn of width 1']
    torch.save(dict(model=make().state_dict(), epoch=7, opt=Bomb()), tmp_path / 'theirs.pth')
    assert convert_checkpoint(tmp_path / 'theirs.pth', model, tmp_path / 'ours').epoch == 7
