"""Runs on a few digits, and small targets made by hand."""

import copy
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.registry import RUNNERS

from ckd_mm.losses import SoftTarget, soft_target
from ckd_mm.pipeline.build import open_run, stage_of
from ckd_mm.targets import Layout, TargetFile, TargetWriter, target_writer

from ..helpers import trajectory, weights_of

# three batches an epoch, the last of one image; five batches of both views
IMAGES, BATCH, VIEWS, EPOCHS = 33, 16, 2, 4
AUGMENTED = [dict(type='RandomCrop', crop_size=8, padding=2), dict(type='RandomFlip', prob=0.5),
             dict(type='PackInputs')]


@pytest.fixture
def cached(distil_run, tmp_path):
    """Makes a config with cached targets of teachers that exist; four epochs of randomly augmented images."""
    if not (tmp_path / 'given').exists():
        trajectory(tmp_path / 'given', epochs=(1, 2, 3))

    def make(name='run', cache=None, distill=None, **settings):
        config = distil_run(work_dir=str(tmp_path / name), **settings)
        config.selector, config.probe = dict(type='even', k=3), None
        config.teacher = dict(trajectory=str(tmp_path / 'given'))
        config.train_cfg.max_epochs = EPOCHS
        config.train_dataloader.update(batch_size=BATCH)
        config.train_dataloader.dataset.update(indices=IMAGES, pipeline=copy.deepcopy(AUGMENTED))
        config.distill.update(distill or {}, cache=dict(views=VIEWS) if cache is None else cache)
        return config

    return make


@pytest.fixture
def targets_made(cached, tmp_path, tmp_path_factory):
    """Config of a run that has made its targets and is to be resumed; made by the first test that needs it,
    and copied for the others."""
    config, store = cached(), tmp_path_factory.getbasetemp() / 'targets_made'
    if not store.exists():
        RUNNERS.build(copy.deepcopy(config)).train(until='targets')
        shutil.copytree(tmp_path / 'run', store)
    shutil.copytree(store, tmp_path / 'run', dirs_exist_ok=True)
    config.resume = True
    return config


def uncached(config):
    """The same run, with teacher forwards in every step."""
    views = config.distill.pop('cache')['views']
    loader = config.train_dataloader
    if loader.dataset.type == 'ckd_mm.InMemory':
        loader.dataset.seed = 0
    else:
        loader.dataset = dict(type='ckd_mm.Views', seed=0, dataset=loader.dataset)
    loader.sampler = dict(type='ckd_mm.ViewSampler', views=views, shuffle=True)
    return config


def student(config) -> dict:
    return weights_of(Path(config.work_dir) / 'student.pth')


def run(config, until=None):
    return RUNNERS.build(config).train(until)


def stage_configs(config, *names):
    """Configs of stages, as if a teacher x.pth had been selected."""
    run, stages = open_run(config)
    stage_of(stages, 'select').chosen = lambda run: [dict(file='x.pth')]
    return [stage_of(stages, name).config(run) for name in names]


# ------------------------------------------------------------ twelve rows, of six images in two views
ROWS = 2
FINGERPRINT = dict(teachers=[dict(sha256='abc')], views=2)


def made(rows: int = 12, classes: int = 7, teachers: int = 3, aggregation: str = 'loss', scale: float = 5.0,
         seed: int = 0) -> SoftTarget:
    logits = scale * torch.randn(teachers, rows, classes, generator=torch.Generator().manual_seed(seed))
    predicted = logits.softmax(dim=2).mean(dim=0).argmax(dim=1)
    return soft_target(logits, 2.0, aggregation)._replace(predicted=predicted)


@pytest.fixture
def writer_of(tmp_path, monkeypatch):
    monkeypatch.setattr(target_writer, 'BATCHES_A_BLOCK', 2)  # of 12 rows: three blocks

    def make(layout=Layout(6, 2, 7, 3, spread=True), fingerprint=FINGERPRINT, batch=ROWS) -> TargetWriter:
        return TargetWriter(tmp_path / 'targets', layout, fingerprint, batch)

    return make


def fill(writer: TargetWriter, blocks, target=None) -> None:
    target = target or made()
    for block in blocks:
        for rows in writer.batches_of(block):
            writer.write(rows.start, SoftTarget(*(part[rows] for part in target)), torch.zeros(len(rows)))
        writer.done(block)
    writer.close()


def finished(writer: TargetWriter) -> TargetFile:
    fill(writer, writer.prepare())
    writer.finish()
    return TargetFile(writer.folder)
