"""A config that comes out of a file of data builds what is registered, and nothing else."""

import copy
import sys
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmengine.config import Config
from mmpretrain.models import ResNet
from torch import nn

from ckd_mm.errors import SnapshotError
from ckd_mm.files import plain
from ckd_mm.trajectory import Trajectory, model_config_of, write_snapshot
from ckd_mm.trajectory.configs import parse_config_text, require_registered

from ..conftest import ROOT, resnet
from ..helpers import TEACHER, network, trajectory

ZOO = Path(mmpretrain.__file__).parent / '.mim' / 'configs'
FOLDERS = ('resnet', 'vision_transformer', 'swin_transformer', 'convnext', 'efficientnet', 'mobilenet_v3',
           'deit', 'hrnet', 'csra', 'mae', 'tinyvit')


class Plain(nn.Module):
    """A network that nobody registered."""


@pytest.mark.parametrize('folder', FOLDERS)
def test_networks_of_the_zoo(folder):
    files = sorted((ZOO / folder).glob('*.py'))[::6]
    assert files
    for file in files:
        config = Config.fromfile(file, format_python_code=False)
        if 'BatchCutMix' not in str(config.model):  # a config of mmcls 0.x that was forgotten
            require_registered(plain(model_config_of(config.to_dict())), str(file), 'model')


@pytest.mark.parametrize('kind', [
    'ResNet', 'mmpretrain.ResNet', 'ckd_mm.CIFARResNet', 'mmengine.BN', 'mmpretrain.models.ResNet', ResNet,
    'mmpretrain.models.backbones.resnet.ResNet', torch.nn.ReLU, 'torch.nn.ReLU', Plain])
def test_registered(kind):
    """By name, and by the dotted names that stand for classes of pure-Python configs."""
    require_registered(plain(dict(resnet(), backbone=dict(type=kind))), 'file', 'model')


def test_networks_of_mmrazor():
    pytest.importorskip('mmrazor')
    require_registered(dict(resnet(), loss=dict(type='mmrazor.L2Loss')), 'file', 'model')


@pytest.mark.parametrize('part, problem', [
    (dict(type='subprocess.getoutput', cmd='true'), r"\.type='subprocess.getoutput' is registered nowhere"),
    (dict(type='antigravity.Network'), r"\.type='antigravity.Network' is registered nowhere"),
    (dict(type='os.mkdir'), r"\.type='os.mkdir' is registered nowhere"),
    (dict(type='torch.load'), r"\.type='torch.load' is registered nowhere"),
    (dict(type='mmpretrain.models.backbones.os.mkdir'), r'\.type=.* is registered nowhere'),
    (dict(type='mmpretrain.models.heads.ResNet'), r'\.type=.* is registered nowhere'),
    (dict(type='mmdet.ResNet'), r"\.type='mmdet.ResNet' is registered nowhere"),
    (dict(type=['ResNet']), r"\.type=\['ResNet'\] is registered nowhere"),
    (dict(type=None), r'\.type=None is registered nowhere'),
    (dict(type='ResNet', plugins=[dict(cfg=dict(type='os.mkdir'))]), r"\.plugins\[0\]\.cfg\.type='os.mkdir'"),
    (dict(type='TIMMBackbone', norm_layer='os.mkdir'), r"\.norm_layer='os.mkdir' is registered nowhere"),
    (dict(type='ResNet', _scope_='antigravity'), r"\._scope_='antigravity' should be one of \['ckd_mm', "),
    (dict(type='ResNet', _scope_=['mmdet']), r"\._scope_=\['mmdet'\] should be one of"),
    (dict(type='HuggingFaceClassifier', trust_remote_code=True), r'\.trust_remote_code=True would run code'),
    (dict(type='ResNet', fix_subnet='evil.YAML'), r"\.fix_subnet='evil.YAML' would be read by running it"),
    (dict(type='ResNet', cfg_path='evil.py'), r"\.cfg_path='evil.py' would be read by running it"),
    (dict(type='ResNet', codebook=str(ROOT / 'README.md')), r"\.codebook='\S+README.md' names another file"),
    (dict(type='ResNet', codebook='https://127.0.0.1/a.pth'), r'\.codebook=.* names another file'),
    (dict(type='ResNet', lm=dict(name_or_path='a/b')), r"\.lm\.name_or_path='a/b' names another file")])
def test_refused(tmp_path, part, problem):
    """Before anything is built or imported, out of a manifest and out of a checkpoint."""
    model = copy.deepcopy(TEACHER)
    model['backbone'] = part
    manifest = trajectory(tmp_path / 'made', (1, )).manifest
    made = Trajectory(manifest.parent, Trajectory.open(manifest), dict(model=model))
    made.save()
    weights = network(TEACHER, 1).state_dict()
    write_snapshot(tmp_path / 'epoch_1.pth', weights, epoch=1, model=model)
    for source, opened in ((manifest, manifest), (tmp_path / 'epoch_1.pth', tmp_path)):
        with pytest.raises(SnapshotError, match=rf'^{source}: model\.backbone{problem}'):
            Trajectory.open(opened)
    assert 'antigravity' not in sys.modules


def test_first_weights_are_not_fetched_for_a_snapshot(tmp_path):
    """They would be replaced by its own."""
    model = dict(copy.deepcopy(TEACHER), init_cfg=dict(type='Pretrained', checkpoint='https://127.0.0.1:1/a.pth'))
    model['backbone']['init_cfg'] = [dict(type='Pretrained', checkpoint='nowhere.pth')]
    snapshot = trajectory(tmp_path, (1, ), model=model).last
    assert snapshot.model == plain(model) and snapshot.build().init_cfg is None


def test_a_config_without_end(tmp_path):
    model = copy.deepcopy(TEACHER)
    model['backbone']['plugins'] = [model]
    torch.save(dict(state_dict=network(TEACHER, 1).state_dict(), meta=dict(model=model)), tmp_path / 'a.pth')
    with pytest.raises(SnapshotError, match=r'^\S+a\.pth: model contains itself, or is nested too deeply$'):
        Trajectory.open(tmp_path / 'a.pth')


@pytest.mark.parametrize('text', ['x' * 10**6 + ' = ' + '(' * 10**5, 'model = ' + '[' * 500, 3, 'a\0b'])
def test_text_that_no_parser_takes(text):
    with pytest.raises(SnapshotError, match='the config inside here cannot be read without running it'):
        parse_config_text(text, 'here')
