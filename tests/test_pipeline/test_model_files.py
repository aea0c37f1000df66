"""A teacher named by the config file that describes it."""

import json
from argparse import Namespace

import pytest
from mmengine.config import Config

from ckd_mm.cli import load_config
from ckd_mm.errors import ConfigError
from ckd_mm.pipeline.build import open_run
from ckd_mm.pipeline.model_files import resolve_model_files

from ..conftest import DEMO

WHOLE = dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=34, num_stages=4, out_indices=(3, )),
             neck=dict(type='GlobalAveragePooling'),
             head=dict(type='LinearClsHead', num_classes=1000, in_channels=512))


def resolved(**model) -> dict:
    config = Config(dict(model=dict(type='Student'), teacher=dict(model=model, snapshots=dict(interval=1))))
    resolve_model_files(config)
    assert config.model == dict(type='Student') and config.teacher.snapshots == dict(interval=1)
    return config.teacher.model.to_dict()


@pytest.fixture
def network_file(tmp_path):
    file = tmp_path / 'networks' / 'resnet34.py'
    file.parent.mkdir()
    file.write_text(f'model = {WHOLE!r}\n')
    return file


def test_the_network_of_a_file(network_file):
    """Other keys are merged over it; without ``cfg_path`` a network is left alone."""
    assert resolved(cfg_path=str(network_file)) == resolved(**WHOLE) == WHOLE
    changed = resolved(cfg_path=str(network_file), backbone=dict(depth=18),
                       head=dict(_delete_=True, type='OtherHead'), neck=None)
    assert changed == dict(WHOLE, backbone=dict(WHOLE['backbone'], depth=18), head=dict(type='OtherHead'),
                           neck=None)


def test_what_cannot_be_merged_is_named(network_file):
    with pytest.raises(ConfigError, match='teacher.model does not fit over its cfg_path: .*num_classes.* of '
                                          'type .*int.* in base config'):
        resolved(cfg_path=str(network_file), head=dict(num_classes=dict(many=10)))


@pytest.mark.parametrize('teacher', [None, dict(trajectory='folder')])
def test_no_network(teacher):
    config = Config(dict(teacher=teacher))
    resolve_model_files(config)
    assert config.teacher == teacher


def test_a_config_of_mmpretrain():
    network = resolved(cfg_path='mmpretrain::resnet/resnet34_8xb32_in1k.py', head=dict(num_classes=10))
    assert network['backbone'] == dict(type='ResNet', depth=34, num_stages=4, out_indices=(3, ),
                                       style='pytorch')
    assert network['head']['num_classes'] == 10 and network['head']['in_channels'] == 512


@pytest.mark.parametrize('cfg_path, message', [
    ('nowhere/resnet.py', "teacher.model.cfg_path='nowhere/resnet.py' cannot be read: FileNotFoundError.*"
                          'name a config file'),
    ('mmpretrain::resnet/resnet35.py', "'mmpretrain::resnet/resnet35.py' cannot be read: FileNotFoundError"),
    ('mmdet3d::second/second.py', 'cannot be read: ModuleNotFoundError.*not installed'),
    (34, 'cfg_path=34 should be the path of a config file')])
def test_no_such_file(cfg_path, message):
    with pytest.raises(ConfigError, match=message):
        resolved(cfg_path=cfg_path)


@pytest.mark.parametrize('text, message', [
    ('optim_wrapper = dict()', 'holds no `model`; name a config file that describes a network'),
    ('model = dict(', 'cannot be read: SyntaxError')])
def test_no_network_in_the_file(text, message, network_file):
    network_file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        resolved(cfg_path=str(network_file))


def test_the_folder_is_that_of_the_file_which_names_it(network_file, tmp_path):
    """Also where a config elsewhere inherits it, and the command line changes the network."""
    (tmp_path / 'base').mkdir()
    (tmp_path / 'base' / 'row.py').write_text(
        "teacher = dict(model=dict(cfg_path='{{fileDirname}}/../networks/resnet34.py'))\n")
    derived = tmp_path / 'far' / 'away' / 'derived.py'
    derived.parent.mkdir(parents=True)
    derived.write_text("_base_ = '../../base/row.py'\n")
    options = {'teacher.model.backbone.depth': 50}
    config = load_config(Namespace(config=str(derived), work_dir=None, cfg_options=options))
    assert config.teacher.model.to_dict() == dict(WHOLE, backbone=dict(WHOLE['backbone'], depth=50))


def test_what_is_dumped_needs_no_file(tmp_path):
    """It is resolved before anything is written."""
    config = Config.fromfile(DEMO)
    config.work_dir = str(tmp_path)
    assert set(config.teacher.model) == {'cfg_path'}
    run, _ = open_run(config)
    config.dump(tmp_path / 'dumped.py')
    again = Config.fromfile(tmp_path / 'dumped.py').teacher.model
    assert again == run.config.teacher.model and 'cfg_path' not in json.dumps(again.to_dict())
    assert again.backbone.num_stages == 3
