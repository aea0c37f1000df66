"""First weights (``load_from``) and the checkpoint to go on from (``--resume PATH``) are two things."""

import copy
import functools
import http.server
import threading
from pathlib import Path

import pytest
import torch
from mmengine.registry import RUNNERS

from ckd_mm.errors import ConfigError
from ckd_mm.hooks.stage_state_hook import KEY
from ckd_mm.pipeline.build import open_run
from ckd_mm.pipeline.resume_check import check_resume
from ckd_mm.trajectory.safe_loading import safe_loading

from ..conftest import distil_config, resnet
from ..helpers import assert_same_weights, in_two_processes, network, stopped_at, weights_of


@pytest.fixture(scope='module')
def stopped(tmp_path_factory):
    """The config of a run whose student has learnt for an epoch."""
    config = distil_config(tmp_path_factory.mktemp('stopped') / 'run', probe=None, selector='last')
    config.default_hooks.checkpoint.save_best = 'accuracy/top1'
    config.default_hooks.checkpoint.rule = 'greater'
    stopped_at(config, 'student', 1)
    return config


def changed(**meta):

    def change(folder: Path, file: Path) -> None:
        checkpoint = torch.load(folder / 'student' / 'epoch_1.pth', weights_only=False)
        checkpoint['meta'].update(meta)
        torch.save(checkpoint, file)

    return change


def of_another_network(folder: Path, file: Path) -> None:
    checkpoint = torch.load(folder / 'teacher' / 'epoch_3.pth', weights_only=False)
    del checkpoint[KEY]['stage']  # of a run that was begun before it was written there
    torch.save(checkpoint, file)


BAD = {
    'is not there': (lambda folder, file: None, 'the file is missing or damaged; name another, or pass'),
    'no zip file': (lambda folder, file: file.write_bytes(b'no'), 'the file is missing or damaged'),
    'weights': (lambda folder, file: torch.save(dict(state_dict=network(resnet(), 5).state_dict()), file),
                'one cannot go on from it, it has no meta.epoch, meta.iter, message_hub, optimizer. To start '
                'from its weights give load_from, and --resume alone'),
    'a tensor': (lambda folder, file: torch.save(torch.zeros(1), file), 'one cannot go on from it'),
    'the best': (lambda folder, file: file.symlink_to(next(folder.glob('student/best_*'))), 'no optimizer'),
    'of the teacher': (lambda folder, file: file.symlink_to(folder / 'teacher' / 'epoch_3.pth'),
                       'is a checkpoint of stage teacher, and only the student'),
    'another network': (of_another_network, 'is of another network than the student: .*backbone.layer2'),
    'too long': (changed(epoch=7), 'was trained for 7 epochs, and train_cfg.max_epochs=2'),
    'no number': (changed(epoch='1'), 'it has no meta.epoch'),
}


@pytest.mark.parametrize('write, message', BAD.values(), ids=BAD)
def test_another_file_is_refused(stopped, tmp_path, write, message):
    """Before anything is trained, in one line."""
    config, folder, file = copy.deepcopy(stopped), Path(stopped.work_dir), tmp_path / 'some.pth'
    write(folder, file)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob('*.pth')}
    for settings in (dict(resume=str(file)), dict(resume=True, load_from=str(file))):  # as mmpretrain's tools
        config.update(settings)
        with pytest.raises(ConfigError, match=f'^--resume {file}.*{message}') as error:
            RUNNERS.build(config).train()
        assert '\n' not in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob('*.pth')} == before


def test_a_url(stopped, tmp_path, monkeypatch):
    """Is fetched once, for both processes of a run."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=stopped.work_dir)
    handler.log_message = lambda *_: None
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    config = copy.deepcopy(stopped)
    url = f'http://127.0.0.1:{server.server_port}/student'
    config.resume = f'{url}/epoch_1.pth'

    def work() -> str:
        torch.distributed.init_process_group('gloo')
        run, stages = open_run(config)
        run.done = {'teacher', 'select'}
        with safe_loading(config):
            return check_resume(run, stages)

    assert in_two_processes(work) == [f'{url}/epoch_1.pth, after epoch 1'] * 2
    server.shutdown()


@pytest.fixture
def start(digits_run, tmp_path) -> dict[str, Path]:
    """Files to start from: weights alone, and a checkpoint of another training of the same network."""
    whole = digits_run(1, work_dir=tmp_path / 'whole', randomness=dict(seed=8), teacher=None, rehearsal=False,
                       runner_type='ckd_mm.CheckpointDistillRunner')
    RUNNERS.build(whole).train()
    torch.save(dict(state_dict=network(resnet(), 5).state_dict()), tmp_path / 'weights.pth')
    return dict(weights=tmp_path / 'weights.pth', whole=tmp_path / 'whole' / 'student' / 'epoch_1.pth')


@pytest.mark.parametrize('kind', ['weights', 'whole'])
def test_the_same_options_as_at_the_first_start(start, kind, digits_run, tool, tmp_path):
    """``--cfg-options load_from=FILE`` is where a student starts, whatever the file holds. It goes on from
    its own checkpoint, or from one that is named."""
    config = digits_run(3, teacher=None, rehearsal=False, runner_type='ckd_mm.CheckpointDistillRunner',
                        custom_imports=dict(imports=['ckd_mm'], allow_failed_imports=False))
    config.dump(tmp_path / 'config.py')

    def train(name: str, *flags) -> None:
        status, _, err = tool('train.py', tmp_path / 'config.py', '--work-dir', tmp_path / name, *flags,
                              '--cfg-options', f'load_from={start[kind]}')
        assert status == 0, err

    train('unbroken')
    broken = copy.deepcopy(config)
    broken.work_dir, broken.load_from = str(tmp_path / 'broken'), str(start[kind])
    stopped_at(broken, 'student', 2)
    first = torch.load(tmp_path / 'broken' / 'student' / 'epoch_1.pth', weights_only=False)
    torch.save(first, tmp_path / 'first.pth')
    train('broken', '--resume')
    train('fresh', '--resume')
    train('named', '--resume', tmp_path / 'first.pth')
    expected = weights_of(tmp_path / 'unbroken' / 'student.pth')
    for name in ('broken', 'fresh', 'named'):
        assert_same_weights(weights_of(tmp_path / name / 'student.pth'), expected)
    assert 'resumed epoch: 1, iter: 4' in next((tmp_path / 'named' / 'student').glob('*/*.log')).read_text()


def test_a_student_with_a_peer_goes_on_from_a_path(digits_run):
    """Its checkpoints have the weights of both."""
    config = digits_run(runner_type='ckd_mm.CheckpointDistillRunner', rehearsal=False,
                        peer=dict(model=resnet(2)), distill=dict(kd_weight=1.0))
    stopped_at(config, 'student', 1)
    config.resume = f'{config.work_dir}/student/epoch_1.pth'
    assert RUNNERS.build(config).train()['student']['epoch'] == 2
