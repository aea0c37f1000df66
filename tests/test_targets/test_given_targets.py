"""Targets that an earlier run made, named with ``distill.cache.file``."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import RUNNERS

from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.files import read_json, write_json
from ckd_mm.pipeline.resumable_loop import ResumableEpochLoop

from ..conftest import resnet
from ..helpers import assert_same_weights
from .conftest import BATCH, IMAGES, VIEWS, preflight, run, student


def test_another_run_takes_them_over(config_of, tmp_path):
    first = config_of('first', dict(cache=dict(views=VIEWS)))
    run(first)
    file = str(tmp_path / 'first' / 'targets')
    second = config_of('second', dict(cache=dict(views=VIEWS, file=file)))
    second.randomness.seed = 4
    run(second)
    assert not (tmp_path / 'second' / 'targets').exists()
    third = config_of('third', dict(cache=dict(views=VIEWS)))
    third.randomness.seed = 4
    run(third)
    assert_same_weights(student(second), student(third))
    assert json.loads((tmp_path / 'second' / 'stages.json').read_text())['targets']['result']['teachers'] == 3


@pytest.mark.parametrize('change,word', [
    (dict(tau=3.0), 'target.tau was 4.0, now 3.0'), (dict(aggregation='loss'), "target.aggregation was "
                                                                               "'prob', now 'loss'")])
def test_targets_of_another_loss_are_not_taken_over(config_of, tmp_path, change, word):
    RUNNERS.build(config_of('first', dict(cache=dict(views=VIEWS)))).train(until='targets')
    second = config_of('second',
                       dict(change, cache=dict(views=VIEWS, file=str(tmp_path / 'first' / 'targets'))))
    with pytest.raises(ConfigError, match=word):
        run(second)


def test_targets_of_other_teachers_and_images_are_not_taken_over(config_of, tmp_path):
    RUNNERS.build(config_of('first', dict(cache=dict(views=VIEWS)))).train(until='targets')
    second = config_of('second', dict(cache=dict(views=VIEWS, file=str(tmp_path / 'first' / 'targets'))))
    second.selector = 'last'
    with pytest.raises(ConfigError, match='was made with other settings: .*teachers.1.sha256'):
        run(second)
    third = config_of('third', dict(cache=dict(views=VIEWS, file=str(tmp_path / 'first' / 'targets'))))
    third.train_dataloader.dataset.pipeline[0].padding = 1
    with pytest.raises(ConfigError, match='dataset.dataset.pipeline.0.padding was 2, now 1'):
        run(third)


def test_targets_of_more_images_are_not_taken_over(config_of, tmp_path):
    RUNNERS.build(config_of('first', dict(cache=dict(views=VIEWS)))).train(until='targets')
    second = config_of('second', dict(cache=dict(views=VIEWS, file=str(tmp_path / 'first' / 'targets'))))
    second.train_dataloader.dataset.indices = IMAGES - 1
    with pytest.raises(ConfigError, match=f'has targets of {IMAGES} images, and the student is trained on '
                                          f'{IMAGES - 1}'):
        preflight(second)


def test_another_batch_size_is_said(config_of, tmp_path):
    RUNNERS.build(config_of('first', dict(cache=dict(views=VIEWS)))).train(until='targets')
    for name, batch, said in (('same', BATCH, 0), ('smaller', 3, 1)):
        config = config_of(name, dict(cache=dict(views=VIEWS, file=str(tmp_path / 'first' / 'targets'))))
        config.train_dataloader.batch_size = batch
        RUNNERS.build(config).train(until='targets')
        log = (tmp_path / name / 'ckd_mm.log').read_text()
        assert log.count(f'were made {BATCH} images at a time and this run has batches of {batch}') == said


def test_given_targets_of_a_teacher_yet_to_be_trained_are_refused(config_of, tmp_path):
    RUNNERS.build(config_of('first', dict(cache=dict(views=VIEWS)))).train(until='targets')
    config = config_of('second', dict(cache=dict(views=VIEWS, file=str(tmp_path / 'first' / 'targets'))))
    config.teacher = dict(model=resnet(2), snapshots=dict(interval=1), train_cfg=dict(max_epochs=3))
    with pytest.raises(ConfigError, match='is of teachers that are trained already: name them with '
                                          'teacher.trajectory'):
        preflight(config)
    config = config_of('third', dict(cache=dict(views=1, file=str(tmp_path / 'first' / 'targets'))))
    with pytest.raises(ConfigError, match='distill.cache.views=1, and the targets in .* have 2'):
        preflight(config)


def taking(config_of, tmp_path, name: str = 'second', folder: str = 'first', **distill):
    """The config of a run with the targets in a folder."""
    return config_of(name, dict(distill, cache=dict(views=VIEWS, file=str(tmp_path / folder / 'targets'))))


def resumed(config):
    config.resume = True
    return config


@pytest.mark.parametrize('stop_epoch', [None, 2])
def test_who_has_learned_from_them_needs_them_no_more(config_of, tmp_path, stop_epoch):
    """Finished runs are resumed and evaluated without; one that is not is told what is missing, and loses
    nothing."""
    RUNNERS.build(config_of('first', dict(cache=dict(views=VIEWS)))).train(until='targets')
    run(taking(config_of, tmp_path, stop_epoch=stop_epoch))
    weights = student(taking(config_of, tmp_path))
    (tmp_path / 'first').rename(tmp_path / 'elsewhere')
    run(resumed(taking(config_of, tmp_path, stop_epoch=stop_epoch)))
    evaluated = taking(config_of, tmp_path, stop_epoch=stop_epoch)
    evaluated.load_from = str(tmp_path / 'second' / 'student.pth')
    assert 'accuracy/top1' in RUNNERS.build(evaluated).test()
    stages = read_json(tmp_path / 'second' / 'stages.json')
    write_json(tmp_path / 'second' / 'stages.json', {name: stages[name]
                for name in stages if name != 'student'})
    with pytest.raises(ConfigError, match='first/targets.* should be the folder of finished targets'):
        run(resumed(taking(config_of, tmp_path, stop_epoch=stop_epoch)))
    (tmp_path / 'elsewhere').rename(tmp_path / 'first')
    run(resumed(taking(config_of, tmp_path, stop_epoch=stop_epoch)))
    assert_same_weights(student(taking(config_of, tmp_path)), weights)


class Stopped(Exception):
    """In the middle of a training."""


def test_they_may_be_moved_but_not_exchanged(config_of, tmp_path, monkeypatch):
    """Of a student that has learned from them for two epochs; moved, it ends as if they had not been."""
    RUNNERS.build(config_of('first', dict(cache=dict(views=VIEWS)))).train(until='targets')
    unmoved = taking(config_of, tmp_path, 'unmoved')
    run(unmoved)

    def stop(loop, index, batch):
        if loop.runner.iter == 7:  # in the third epoch of three batches
            raise Stopped
        return original(loop, index, batch)

    original = ResumableEpochLoop.run_iter
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(ResumableEpochLoop, 'run_iter', stop)
        run(taking(config_of, tmp_path))
    (tmp_path / 'first').rename(tmp_path / 'moved')
    others = Path(shutil.copytree(tmp_path / 'moved' / 'targets', tmp_path / 'others' / 'targets'))
    np.save(others / 'log_p.npy', np.nextafter(np.load(others / 'log_p.npy'), np.float32(0)))
    record = read_json(others / 'targets.json')
    record['sha256']['log_p'] = hashlib.sha256((others / 'log_p.npy').read_bytes()).hexdigest()
    write_json(others / 'targets.json', record)
    with pytest.raises(CkdError, match='others/targets are not those that this run began with: their SHA-256 '
                                       'is another'):
        run(resumed(taking(config_of, tmp_path, folder='others')))
    run(resumed(taking(config_of, tmp_path, folder='moved')))
    assert_same_weights(student(taking(config_of, tmp_path)), student(unmoved))
