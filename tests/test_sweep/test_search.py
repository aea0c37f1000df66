"""Temperature and weights are chosen on held-out images; the test set stays unread."""

import json

import pytest
import torch
from mmpretrain.registry import DATASETS, MODELS
from sklearn.datasets import load_digits

from ckd_mm.data.split import held_out_indices
from ckd_mm.errors import ConfigError
from ckd_mm.sweep import collect, make_search
from ckd_mm.sweep.search import grid

from ..conftest import STATISTICS, resnet
from ..helpers import trajectory


@pytest.fixture
def unreadable_test_set():

    class Unreadable:

        def __init__(self, **settings) -> None:
            raise AssertionError('the test set was read')

    DATASETS.register_module(name='Unreadable', module=Unreadable)
    yield 'Unreadable'
    DATASETS.module_dict.pop('Unreadable')


def test_grid():
    assert grid({'distill.tau': [1, 4], 'distill.kd_weight': 0.5}) == [
        {'distill.tau': 1, 'distill.kd_weight': 0.5}, {'distill.tau': 4, 'distill.kd_weight': 0.5}]
    pairs = [(0.1, 0.9), (0.5, 0.5)]
    assert grid({'distill.ce_weight+distill.kd_weight': pairs, 'distill.tau': [2, 4]}) == [
        {'distill.ce_weight': ce, 'distill.kd_weight': kd, 'distill.tau': tau}
        for ce, kd in pairs for tau in (2, 4)]


@pytest.mark.parametrize('settings, distill, message', [
    ({'distill.tau': []}, {}, '--search distill.tau= names no values'),
    ({'teacher.train_cfg.max_epochs': [1, 2]}, {},
     '--search teacher.train_cfg.max_epochs: a search chooses settings of the student'),
    ({'distill.ce_weight+distill.kd_weight': (0.1, 0.9)}, {}, 'each value should be 2 values, one a key'),
    ({'distill.tau': [1.0], 'optim_wraper.optimizer.lr': [0.1]}, {},
     "--search optim_wraper.optimizer.lr: the config has no 'optim_wraper'"),
    ({'distill.tau': [1.0]}, dict(schedule=dict(type='ckd_mm.StopWhenOvertakenHook')),
     'StopWhenOvertakenHook .* distill.schedule=None')])
def test_not_a_search(settings, distill, message, distil_run):
    with pytest.raises(ConfigError, match=message):
        make_search(distil_run(distill=distill), settings, seeds=[0])


def test_search(distil_run, tmp_path, unreadable_test_set, run_commands):
    config = distil_run(work_dir=str(tmp_path))
    config.probe, config.selector = dict(held_out=24, seed=5), 'last'
    for loader in (config.val_dataloader, config.test_dataloader):
        loader.dataset.type = unreadable_test_set
        loader.dataset.pop('indices')
    # a student with hardly any loss, and one that learns
    search = make_search(config, {'distill.ce_weight+distill.kd_weight': [(0.0, 1e-4), (1.0, 1.0)]},
                         seeds=[0])
    assert len(run_commands(search)) == 3
    text, found = collect(tmp_path), json.loads((tmp_path / 'search.json').read_text())
    assert len(found['trials']) == 2 and found['held_out'] == dict(held_out=24, seed=5)
    best, = found['best']
    assert best['mean'] == max(row['mean'] for row in found['settings'])
    assert best['cfg_options'] in text and text.count('<- best') == 1

    # accuracy on the held-out images by a second implementation; none of them, in training
    digits, held_out = load_digits(), held_out_indices(64, 24, 5)
    images = torch.from_numpy(digits.images[held_out]).float().mul(255 / 16).round()
    for row in found['trials']:
        network = MODELS.build(dict(resnet(), data_preprocessor=dict(STATISTICS))).eval()
        folder = tmp_path / 'trials' / row['name']
        network.load_state_dict(torch.load(folder / 'student.pth', weights_only=True)['state_dict'])
        with torch.no_grad():
            logits = network(((images - 77.9) / 95.9)[:, None].expand(-1, 3, -1, -1))
        right = logits.argmax(1).numpy() == digits.target[held_out]
        assert row['accuracy_top1'] == pytest.approx(100 * right.mean(), abs=1e-3)
        settings = json.loads((folder / 'stages.json').read_text())['student']['settings']
        assert settings['train_dataloader.dataset.part'] == 'rest'
        assert settings['train_dataloader.dataset.held_out'] == 24
    teacher = json.loads((tmp_path / 'teacher_run' / 'trajectory.json').read_text())
    assert teacher['held_out'].items() >= dict(held_out=24, seed=5, total=64).items()
    assert not any(row['metrics'] for row in teacher['snapshots']), 'the teacher should not be validated'


def test_a_teacher_that_saw_the_held_out_images(distil_run, tmp_path, capsys, run_commands):
    trajectory(tmp_path / 'teacher', epochs=(1, 2))
    config = distil_run(work_dir=str(tmp_path / 'run'))
    config.teacher = dict(trajectory=str(tmp_path / 'teacher'))
    search = make_search(config, {'distill.tau': [2.0]}, seeds=[0], epochs=[2])
    assert 'does not say that its teacher was trained without the held-out images' in capsys.readouterr().out
    search.write(['train'])
    assert '1 of 1 trials are not finished' in collect(tmp_path / 'run')
    assert json.loads((tmp_path / 'run' / 'search.json').read_text())['best'] == []
    run_commands(search)
    collect(tmp_path / 'run')
    best, = json.loads((tmp_path / 'run' / 'search.json').read_text())['best']
    assert (best['epoch'], best['cfg_options']) == (2, '--cfg-options distill.tau=2.0')
