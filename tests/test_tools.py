"""The command line tools, run as scripts in this process; tests/test_pipeline runs train and test as
processes."""

import functools
import json
import runpy
import shutil
import sys

import pytest
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ckd_mm.trajectory import Trajectory

from .conftest import DEMO, ROOT, resnet


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    return tmp_path_factory.mktemp('trained')


@pytest.fixture
def run(digits_run, trained, tmp_path):
    """A copy of an ordinary run with snapshots, its config as a file."""
    if not (trained / 'config.py').exists():
        config = digits_run(epochs=4, model=resnet(2), work_dir=trained / 'run',
                            custom_hooks=[dict(type='ckd_mm.SnapshotHook', interval=1)])
        config.custom_imports = dict(imports=['ckd_mm'], allow_failed_imports=False)
        config.default_hooks.checkpoint.max_keep_ckpts = -1
        Runner.from_cfg(config).train()
        config.dump(trained / 'config.py')
    shutil.copytree(trained / 'run', tmp_path / 'run')
    return trained / 'config.py', tmp_path / 'run'


def test_probe_then_select(tool, run, tmp_path):
    config, folder = run
    status, out, _ = tool('probe.py', config, folder, '--probe-split', 'test', '--cfg-options',
                          'probe.decoder_epochs=2')
    assert status == 0 and '<- T*' in out
    best = json.loads((folder / 'information_plane.json').read_text())['best_epoch']
    status, out, _ = tool('select_teacher.py', folder, 'information_plane')
    assert status == 0 and out.startswith(f'epochs [{best}]: T*')
    selection = json.loads((folder / 'selection.json').read_text())
    (folder / 'stages.json').write_text('{}')  # as of a whole run
    status, out, _ = tool('select_teacher.py', folder, 'last')
    assert status == 0 and out.startswith('epochs [4]') and 'stays as it is' in out
    assert json.loads((folder / 'selection.json').read_text()) == selection
    assert selection['epochs'] == [best] and selection['candidates'] == [1, 2, 3, 4]
    assert len(selection['scores']) == 4
    status, out, _ = tool('select_teacher.py', folder, 'even', '--options', 'k=2', '--out',
                          tmp_path / 'even.json')
    assert json.loads((tmp_path / 'even.json').read_text())['epochs'] == [2, 4]


def test_probe_of_ordinary_checkpoints(tool, run, tmp_path):
    """epoch_*.pth as any OpenMMLab run leaves them."""
    config, folder = run
    (folder / 'trajectory.json').unlink()
    assert Trajectory.open(folder).info['source'] == 'epoch_*.pth'
    status, _, _ = tool('probe.py', config, folder, '--probe-split', 'test', '--out', tmp_path / 'out',
                        '--cfg-options', 'probe.decoder_epochs=2')
    assert status == 0
    points = json.loads((tmp_path / 'out' / 'information_plane.json').read_text())['points']
    assert [point['epoch'] for point in points] == [1, 2, 3, 4]


def test_select_needs_a_plane(tool, run):
    status, _, err = tool('select_teacher.py', run[1], 'information_plane')
    assert status == 1 and err.strip().endswith('run tools/probe.py first, or give --plane')


def test_doctor(tool, tmp_path):
    status, out, _ = tool('doctor.py', DEMO, '--work-dir', tmp_path / 'run')
    assert status == 0 and 'Nothing stands in the way' in out and '[ ok ] teacher: disk' in out
    assert '[ ok ] settings: teacher, probe, select, student' in out  # the stages, for --until
    status, out, err = tool('doctor.py', DEMO, '--work-dir', tmp_path / 'run', '--cfg-options',
                            'teacher.model.head.num_classes=11', 'optim_wrapper.type=AmpOptimWrapper')
    assert status == 1 and err.startswith('error: 2 problem(s) found:\n1. ') and '\n2. ' in err
    assert 'num_classes=11' in err and 'No accelerator is visible here: leave --amp out' in err
    assert not (tmp_path / 'run').exists(), 'the doctor should leave nothing behind'
    status, out, err = tool('doctor.py', DEMO, '--work-dir', tmp_path / 'run', '--cfg-options',
                            'test_dataloader.dataset.type=NoDigits')
    assert status == 1 and err.startswith('error: 1 problem(s) found') and out.count('cannot be read') == 1
    assert '[ problem ] labels: test_dataloader.dataset cannot be read' in out
    assert '[ problem ] student_alone: rehearsal: as above, labels' in out


@pytest.mark.parametrize('options, warnings', [([], 1), (['--auto-scale-lr'], 0)])
def test_doctor_repeats_warnings_at_the_end(tool, tmp_path, options, warnings):
    """A step of the demo has 32 images."""
    status, out, _ = tool('doctor.py', DEMO, '--work-dir', tmp_path / 'run', *options, '--cfg-options',
                          'auto_scale_lr.base_batch_size=256')
    assert status == 0 and 'Nothing stands in the way' in out.splitlines()[-1]
    assert out.count('1 warning(s):\n1. the learning rate is for 256 images a step') == warnings
    assert out.count('[ warning ] the learning rate is for 256 images a step') == warnings


def test_test_of_a_teacher_and_a_missing_file(tool, run, tmp_path):
    config, folder = run
    status, _, err = tool('test.py', config, tmp_path / 'no.pth')
    assert status == 1 and err.strip() == f'error: checkpoint {tmp_path}/no.pth does not exist'
    snapshot = Trajectory.open(folder).last
    status, _, _ = tool('test.py', config, snapshot.file, '--work-dir', tmp_path / 'test', '--out',
                        tmp_path / 'metrics.json')
    assert status == 0
    accuracy = json.loads((tmp_path / 'metrics.json').read_text())['accuracy/top1']
    assert accuracy == pytest.approx(snapshot.accuracy, abs=1e-3)


def test_report(tool, distil_run):
    config = distil_run(selector='last', probe=None)
    RUNNERS.build(config).train()
    page = ROOT / config.work_dir / 'report.html'
    before = page.read_text()
    page.unlink()
    status, out, _ = tool('report.py', config.work_dir)
    assert status == 0 and 'top-1 %' in out and page.read_text() == before
    status, _, err = tool('test.py', DEMO, page.parent / 'student.pth')
    assert status == 1 and 'is not of the network' in err  # weights of another network are not evaluated
    status, _, err = tool('report.py', page.parent / 'nothing')
    assert status == 1 and 'report.json does not exist' in err


@pytest.mark.parametrize('flags, expected', [
    (['--amp'], {'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.loss_scale': 'dynamic',
                 'teacher.optim_wrapper.type': 'AmpOptimWrapper'}),
    (['--no-validate'], {'val_cfg': None, 'val_dataloader': None, 'val_evaluator': None}),
    (['--resume', '--cfg-options', 'load_from=start.pth'], {'resume': 'auto', 'load_from': 'start.pth'}),
    (['--resume', 'some.pth'], {'resume': 'some.pth', 'load_from': None}),
    (['--resume', '--cfg-options', 'runner_type=Runner', 'load_from=start.pth'],
     {'resume': True, 'load_from': None}),
    (['--resume', 'some.pth', '--cfg-options', 'runner_type=Runner', 'load_from=start.pth'],
     {'resume': True, 'load_from': 'some.pth'}),
    (['--auto-scale-lr'], {'auto_scale_lr.enable': True}),
    (['--no-pin-memory'], {'train_dataloader.pin_memory': False}),
    (['--no-persistent-workers'], {'train_dataloader.persistent_workers': False}),
    (['--launcher', 'slurm'], {'launcher': 'slurm'}),
    (['--cfg-options', 'selector=half_way', 'teacher.train_cfg.max_epochs=60'],
     {'selector': 'half_way', 'teacher.train_cfg.max_epochs': 60}),
    ([], {'work_dir': 'work_dirs/r34_r18_imagenet', 'train_dataloader.persistent_workers': True})])
def test_flags_mean_what_they_mean_in_openmmlab(flags, expected, monkeypatch):
    path = ROOT / 'configs' / 'ckd' / 'r34_r18_imagenet.py'
    train = runpy.run_path(str(ROOT / 'tools' / 'train.py'))
    monkeypatch.setattr(sys, 'argv', ['train.py', str(path), *flags])
    config = Config.fromfile(path)
    config.teacher.optim_wrapper = dict(optimizer=dict(lr=0.05))
    config = train['merge_args'](config, train['parse_args']())
    assert {key: functools.reduce(lambda value, part: value[part], key.split('.'), config)
            for key in expected} == expected


def test_until_stops_after_a_stage(tool, distil_run, digits_run, tmp_path):
    config = distil_run(selector='last', probe=None)
    config.custom_imports = dict(imports=['ckd_mm'], allow_failed_imports=False)
    config.dump(tmp_path / 'config.py')
    command = ['train.py', tmp_path / 'config.py', '--work-dir', tmp_path / 'until']
    status, _, err = tool(*command, '--until', 'probe')
    assert status == 1 and "'probe' is no stage of this config: 'teacher', 'select', 'student'" in err
    assert tool(*command, '--until', 'select')[0] == 0
    assert list(json.loads((tmp_path / 'until' / 'stages.json').read_text())) == ['teacher', 'select']
    digits_run().dump(tmp_path / 'ordinary.py')
    status, _, err = tool('train.py', tmp_path / 'ordinary.py', '--until', 'teacher')
    assert status == 1 and '--until teacher' in err and 'leave --until out' in err
