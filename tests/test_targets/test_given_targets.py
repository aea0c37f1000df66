"""Targets that an earlier run made, named with ``distill.cache.file``."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import RUNNERS

from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.files import read_json, write_json
from ckd_mm.pipeline.resumable_loop import ResumableEpochLoop

from ..conftest import resnet
from ..helpers import assert_same_weights, prepared
from .conftest import BATCH, IMAGES, run, student


@pytest.fixture
def taking(cached, targets_made, tmp_path):
    """Makes the config of a run with the targets in a folder."""

    def make(name='second', folder='run', resume=False, views=2, **distill):
        config = cached(name, dict(views=views, file=str(tmp_path / folder / 'targets')), distill)
        config.resume = resume
        return config

    return make


def test_another_run_takes_them_over(taking, cached, tmp_path):
    """Of another seed."""
    configs = [taking(), cached('third')]
    for config in configs:
        config.randomness.seed = 4
        run(config)
    assert not (tmp_path / 'second' / 'targets').exists()
    assert_same_weights(*map(student, configs))
    assert read_json(tmp_path / 'second' / 'stages.json')['targets']['result']['teachers'] == 3


def last_teacher(config) -> None:
    config.selector = 'last'


def smaller_padding(config) -> None:
    config.train_dataloader.dataset.pipeline[0].padding = 1


@pytest.mark.parametrize('change, words', [
    (lambda config: config.distill.update(tau=3.0), 'target.tau was 4.0, now 3.0'),
    (lambda config: config.distill.update(aggregation='loss'), "target.aggregation was 'prob', now 'loss'"),
    (last_teacher, '.*teachers.1.sha256'),
    (smaller_padding, 'dataset.dataset.pipeline.0.padding was 2, now 1')])
def test_targets_of_other_settings_are_refused(taking, change, words):
    config = taking()
    change(config)
    with pytest.raises(ConfigError, match=f"targets' was made with other settings: {words}"):
        run(config, until='targets')


def fewer_images(config) -> None:
    config.train_dataloader.dataset.indices = IMAGES - 1


def trained_teacher(config) -> None:
    config.teacher = dict(model=resnet(2), snapshots=dict(interval=1), train_cfg=dict(max_epochs=3))


@pytest.mark.parametrize('change, words', [
    (fewer_images, f'was made with other settings: images was {IMAGES}, now {IMAGES - 1}'),
    (lambda config: config.distill.cache.update(views=1), 'views was 2, now 1. Restore them, or leave'),
    (trained_teacher, 'is of teachers that are trained already: name them with teacher.trajectory')])
def test_what_does_not_fit_is_refused_before_training(taking, change, words):
    config = taking()
    change(config)
    with pytest.raises(ConfigError, match=words):
        prepared(config)


def test_another_batch_size_is_warned_of(taking, tmp_path):
    for name, batch, times in (('same', BATCH, 0), ('smaller', 3, 1)):
        config = taking(name)
        config.train_dataloader.batch_size = batch
        run(config, until='targets')
        log = (tmp_path / name / 'ckd_mm.log').read_text()
        assert log.count(f'were made {BATCH} images at a time and this run has batches of {batch}') == times


def test_finished_targets_serve_another_batch_size(cached, tmp_path):
    """As where a student was out of memory."""
    run(cached(), until='targets')
    config = cached(resume=True)
    config.train_dataloader.batch_size = 3
    run(config)
    assert student(config) and (tmp_path / 'run' / 'ckd_mm.log').read_text().count(
        f'Stage targets: batch_size was {BATCH}, now 3; what is finished stays as it is') == 1


@pytest.mark.parametrize('stop_epoch', [None, 2])
def test_who_has_learned_from_them_needs_them_no_more(taking, tmp_path, stop_epoch):
    """Finished runs are resumed and evaluated without; one that is not is told what is missing, and loses
    nothing."""
    run(taking(stop_epoch=stop_epoch))
    weights = student(taking())
    (tmp_path / 'run').rename(tmp_path / 'elsewhere')
    run(taking(resume=True, stop_epoch=stop_epoch))
    evaluated = taking(stop_epoch=stop_epoch)
    evaluated.load_from = str(tmp_path / 'second' / 'student.pth')
    assert 'accuracy/top1' in RUNNERS.build(evaluated).test()
    stages = read_json(tmp_path / 'second' / 'stages.json')
    del stages['student']
    write_json(tmp_path / 'second' / 'stages.json', stages)
    with pytest.raises(ConfigError, match='run/targets.* should be the folder of finished targets'):
        run(taking(resume=True, stop_epoch=stop_epoch))
    (tmp_path / 'elsewhere').rename(tmp_path / 'run')
    run(taking(resume=True, stop_epoch=stop_epoch))
    assert_same_weights(student(taking()), weights)


class Stopped(Exception):
    """In the middle of a training."""


def test_they_may_be_moved_but_not_exchanged(taking, tmp_path, monkeypatch):
    """Of a student that has learned from them for two epochs; moved, it ends as if they had not been."""
    run(taking('unmoved'))

    def stop(loop, index, batch):
        if loop.runner.iter == 7:  # in the third epoch of three batches
            raise Stopped
        return original(loop, index, batch)

    original = ResumableEpochLoop.run_iter
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(ResumableEpochLoop, 'run_iter', stop)
        run(taking())
    (tmp_path / 'run').rename(tmp_path / 'moved')
    others = Path(shutil.copytree(tmp_path / 'moved' / 'targets', tmp_path / 'others' / 'targets'))
    np.save(others / 'log_p.npy', np.nextafter(np.load(others / 'log_p.npy'), np.float32(0)))
    record = read_json(others / 'targets.json')
    record['sha256']['log_p'] = hashlib.sha256((others / 'log_p.npy').read_bytes()).hexdigest()
    write_json(others / 'targets.json', record)
    with pytest.raises(CkdError, match='others/targets are not those that this run began with: their SHA-256 '
                                       'is another'):
        run(taking(folder='others', resume=True))
    run(taking(folder='moved', resume=True))
    assert_same_weights(student(taking()), student(taking('unmoved')))
