"""A file that runs code when it is read by mmengine, through every door: nothing runs, one line names it."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS

from ckd_mm.errors import CkdError
from ckd_mm.losses import SoftTarget
from ckd_mm.targets import Layout, TargetFile, TargetWriter
from ckd_mm.teachers.head_file import read_heads
from ckd_mm.trajectory import Trajectory

from ..conftest import digits_config, distil_config, resnet
from ..helpers import Evil, network, prepared, train, trajectory, with_statistics

STUDENT = with_statistics(resnet())


@pytest.fixture
def hostile(tmp_path):
    """A checkpoint of a student after its first epoch, whose unpickling makes a marker."""
    file = tmp_path / 'evil.pth'
    torch.save(dict(state_dict=network(STUDENT, 1).state_dict(), meta=dict(epoch=1, iter=4), message_hub={},
                    evil=Evil(os.mkdir, str(tmp_path / 'marker'))), file)
    return SimpleNamespace(file=file, marker=tmp_path / 'marker', folder=tmp_path)


def student(evil, **settings) -> Config:
    """A run of a student alone."""
    config = digits_config(evil.folder / 'run', **settings)
    config.update(runner_type='ckd_mm.CheckpointDistillRunner', teacher=None)
    return config


def written(evil, config: Config) -> Path:
    config.dump(evil.folder / 'config.py')
    return evil.folder / 'config.py'


def load_from(evil, tool):
    RUNNERS.build(student(evil, load_from=str(evil.file))).train()


def load_from_without_rehearsal(evil, tool):
    RUNNERS.build(student(evil, load_from=str(evil.file), rehearsal=False)).train()


def load_from_of_an_ordinary_training(evil, tool):
    return tool('train.py', written(evil, digits_config(evil.folder / 'run', load_from=str(evil.file))))


def resume_from_a_path(evil, tool):
    return tool('train.py', written(evil, student(evil)), '--resume', evil.file)


def last_checkpoint(evil, tool):
    folder = evil.folder / 'run' / 'student'
    folder.mkdir(parents=True)
    evil.file = evil.file.rename(folder / 'epoch_1.pth')
    (folder / 'last_checkpoint').write_text(str(evil.file))
    return tool('train.py', written(evil, student(evil)), '--resume')


def init_cfg(evil, tool):
    pretrained = dict(type='Pretrained', checkpoint=str(evil.file))
    RUNNERS.build(student(evil, model=dict(init_cfg=pretrained))).train()


def init_cfg_of_a_part(evil, tool):
    pretrained = dict(type='Pretrained', checkpoint=str(evil.file), prefix='backbone')
    RUNNERS.build(student(evil, model=dict(backbone=dict(init_cfg=pretrained)))).train()


def tools_test(evil, tool):
    return tool('test.py', written(evil, student(evil)), evil.file)


def tools_test_of_an_ordinary_training(evil, tool):
    return tool('test.py', written(evil, digits_config(evil.folder / 'run')), evil.file)


def tools_test_of_the_teacher(evil, tool):
    config = distil_config(evil.folder / 'run', teacher=dict(model=resnet()))
    return tool('test.py', written(evil, config), evil.file, '--teacher')


def heads(evil, tool):
    read_heads(evil.file)


def targets(evil, tool):
    """numpy reads arrays of objects by unpickling them, where it may."""
    layout = Layout(images=2, views=1, classes=3)
    writer = TargetWriter(evil.folder / 'targets', layout, {}, 2)
    target = SoftTarget(torch.zeros(2, 3).log_softmax(1), None, torch.zeros(2))
    for block in writer.prepare():
        writer.write(0, target, torch.zeros(2))
        writer.done(block)
    writer.finish()
    evil.file = evil.folder / 'targets' / 'log_p.npy'
    np.save(evil.file, np.array([Evil(os.mkdir, str(evil.marker))] * 2), allow_pickle=True)
    TargetFile(evil.folder / 'targets').read(np.arange(2))


def as_teacher(evil, folder):
    config = distil_config(evil.folder / 'run', selector='last', probe=None)
    config.teacher = dict(trajectory=str(folder))
    prepared(config)


def model_in_a_manifest(evil, tool):
    evil.file = trajectory(evil.folder / 'made', (1, )).manifest
    found = json.loads(evil.file.read_text())
    found['model']['head']['loss'] = dict(type='os.mkdir', path=str(evil.marker))
    evil.file.write_text(json.dumps(found))
    as_teacher(evil, evil.file.parent)


def path_in_a_manifest(evil, tool):
    evil.file = trajectory(evil.folder / 'made', (1, )).manifest
    found = json.loads(evil.file.read_text())
    found['snapshots'][0].update(file='../evil.pth', size=None, sha256=None)
    evil.file.write_text(json.dumps(found))
    as_teacher(evil, evil.file.parent)


def config_text(evil, tool, text="model = dict(type='os.mkdir', path={!r})"):
    (evil.folder / 'made').mkdir()
    evil.file = evil.folder / 'made' / 'epoch_1.pth'
    meta = dict(cfg=text.format(str(evil.marker)))
    torch.save(dict(state_dict=network(STUDENT, 1).state_dict(), meta=meta), evil.file)
    as_teacher(evil, evil.folder / 'made')


def code_in_config_text(evil, tool):
    config_text(evil, tool, "import os\nmodel = os.mkdir({!r})")


DOORS = [load_from, load_from_without_rehearsal, load_from_of_an_ordinary_training, resume_from_a_path,
         last_checkpoint, init_cfg, init_cfg_of_a_part, tools_test, tools_test_of_an_ordinary_training,
         tools_test_of_the_teacher, heads, targets, model_in_a_manifest, path_in_a_manifest, config_text,
         code_in_config_text]


@pytest.mark.parametrize('door', DOORS, ids=lambda door: door.__name__)
def test_nothing_is_run_and_the_file_is_named(hostile, tool, door):
    try:
        status, _, text = door(hostile, tool) or (0, '', '')
    except CkdError as error:
        status, text = 1, f'error: {error}'
    lines = [line for line in text.splitlines() if line.startswith('error: ')]
    assert not hostile.marker.exists()
    assert status == 1 and len(lines) == 1 and hostile.file.name in lines[0]
    assert 'Traceback' not in text


def test_the_file_is_hostile(hostile):
    torch.load(hostile.file, weights_only=False)
    assert hostile.marker.exists()


def test_snapshots_give_their_weights_alone(hostile):
    (hostile.folder / 'made').mkdir()
    hostile.file.rename(hostile.folder / 'made' / 'epoch_1.pth')
    Trajectory.open(hostile.folder / 'made', STUDENT).last.build()
    assert not hostile.marker.exists()


def test_a_resumed_training_does_not_run_the_config_of_its_checkpoint(hostile, tool):
    """meta.config, which mmengine's resume executes."""
    file = f'{train(digits_config(hostile.folder / "run", epochs=1)).work_dir}/epoch_1.pth'
    checkpoint = torch.load(file, weights_only=False)
    checkpoint['meta']['config'] = f'import os\nos.mkdir({str(hostile.marker)!r})\n'
    torch.save(checkpoint, file)
    config = written(hostile, digits_config(hostile.folder / 'run', epochs=2))
    assert tool('train.py', config, '--resume', file)[0] == 0
    assert (hostile.folder / 'run' / 'epoch_2.pth').exists() and not hostile.marker.exists()
