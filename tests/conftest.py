"""Small real networks on real digits, shared by all tests."""

import functools
import gc
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ['OMP_NUM_THREADS'] = '1'  # two threads beside any other load are slower than one

import hypothesis
import pytest
import sklearn.datasets
import torch
from mmengine.config import Config
from mmengine.dataset import base_dataset
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from yapf.yapflib import yapf_api

import ckd_mm  # noqa: F401

torch.set_num_threads(1)
# mmengine formats the config of every run, and again for every checkpoint, which takes longer than these runs
format_code, yapf_api.FormatCode = yapf_api.FormatCode, lambda text, **options: (text, False)
# it collects garbage for every data set, of which a run builds ten; and each parses a text file of digits
base_dataset.gc = SimpleNamespace(collect=lambda: None)
sklearn.datasets.load_digits = functools.cache(sklearn.datasets.load_digits)
ROOT = Path(__file__).parents[1]
# a machine may be busy; and folders that fixtures make are only written into
QUIET = dict(deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck))
DEMO = ROOT / 'configs' / 'ckd' / 'demo_digits.py'


def pytest_addoption(parser):
    group = parser.getgroup('faults', 'what tests/faults draws')
    group.addoption('--faults', choices=('sample', 'all'), default='sample',
                    help='all: ten draws of each row, every kill, more examples of what hypothesis makes')
    group.addoption('--networks', choices=('sample', 'all'), default='sample',
                    help='all: each network of tests/networks/ledger.py is trained')
    group.addoption('--seed', type=int, default=0, help='of the draws')


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    hypothesis.settings.register_profile('sample', max_examples=25, derandomize=True, **QUIET)
    hypothesis.settings.register_profile('all', max_examples=1000, **QUIET)
    hypothesis.settings.load_profile(config.getoption('faults'))
    if config.getoption('faults') == 'all' and config.getoption('--hypothesis-seed') is None:
        config.option.hypothesis_seed = str(config.getoption('seed'))


def pytest_collection_finish():
    """A run collects garbage after each of its stages: not among what is imported by now."""
    import mmpretrain.models  # noqa: F401
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    gc.unfreeze()  # or extension modules complain at the end of objects that nobody collected


@pytest.fixture(scope='module', autouse=True)
def forget_runs():
    """mmengine keeps the loggers, message hubs, visualizers and scopes of all runs of a process; with some
    thousand, every garbage collection and every switch of scope (a copy of them all) takes a second."""
    yield
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    for kind in (MMLogger, MessageHub, Visualizer, DefaultScope):
        kind._instance_dict.clear()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def mmpretrain_scope(request):
    """Types without a scope are mmpretrain's, as in every config."""
    DefaultScope.get_instance(f'test {request.node.name} {id(request)}', scope_name='mmpretrain')


def resnet(stages: int = 1, channels: int = 4, classes: int = 10, **options) -> dict:
    """Config of a small ResNet for 8x8 images, as the demo's."""
    backbone = dict(type='ResNet_CIFAR', depth=18, num_stages=stages, strides=(1, 2, 2)[:stages],
                    dilations=(1, ) * stages, out_indices=(stages - 1, ), stem_channels=channels,
                    base_channels=channels, style='pytorch', **options)
    head = dict(type='LinearClsHead', num_classes=classes, in_channels=channels * 2**(stages - 1),
                loss=dict(type='CrossEntropyLoss'))
    return dict(type='ImageClassifier', backbone=backbone, neck=dict(type='GlobalAveragePooling'), head=head)


STATISTICS = dict(num_classes=10, mean=[77.9] * 3, std=[95.9] * 3, to_rgb=False)


def digits_config(work_dir: Path, epochs: int = 2, images: int = 64, batch: int = 16, **settings) -> Config:
    """Config of an ordinary mmengine run on a few digits."""

    def loader(split: str, size: int, indices: int) -> dict:
        return dict(batch_size=size, num_workers=0,
                    sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
                    dataset=dict(type='ckd_mm.Digits', split=split, indices=indices,
                                 pipeline=[dict(type='PackInputs')]))

    accuracy, work_dir = dict(type='Accuracy', topk=(1, )), Path(work_dir)
    config = Config(
        dict(default_scope='mmpretrain', work_dir=str(work_dir), model=resnet(), data_preprocessor=STATISTICS,
             train_dataloader=loader('train', batch, images), val_dataloader=loader('test', 100, 100),
             test_dataloader=loader('test', 100, 100), val_evaluator=accuracy, test_evaluator=accuracy,
             train_cfg=dict(by_epoch=True, max_epochs=epochs), val_cfg=dict(), test_cfg=dict(),
             optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
             default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
                                logger=dict(type='LoggerHook')),
             randomness=dict(seed=3), experiment_name=f'{work_dir.parent.name}_{work_dir.name}'),
        format_python_code=False)  # yapf takes longer than these runs
    config.merge_from_dict(settings)
    return config


def distil_config(work_dir: Path, teacher: dict | None = None, **settings) -> Config:
    """Config of the whole method on a few digits: 3 epochs of teacher, 2 of student."""
    config = digits_config(work_dir)
    config.runner_type = 'ckd_mm.CheckpointDistillRunner'
    config.teacher = dict(dict(model=resnet(2), train_cfg=dict(max_epochs=3), snapshots=dict(interval=1)),
                          **(teacher or {}))
    config.probe = dict(held_out=16, decoder_epochs=2, decoder_batch=8)
    config.selector = 'information_plane'
    config.distill = dict(tau=4.0, ce_weight=0.1, kd_weight=0.9)
    config.merge_from_dict(settings)
    return config


@pytest.fixture
def digits_run(tmp_path):
    """:func:`digits_config` below this test's folder."""
    return lambda *args, work_dir=tmp_path / 'run', **settings: digits_config(work_dir, *args, **settings)


@pytest.fixture
def distil_run(tmp_path):
    """:func:`distil_config` below this test's folder."""
    return lambda *args, work_dir=tmp_path / 'run', **settings: distil_config(work_dir, *args, **settings)


@pytest.fixture
def tool(monkeypatch, capsys):

    def call(name, *arguments):
        """Exit status, stdout, stderr of a command line tool, run as a script in this process."""
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return call


def run_tool(*command, check: bool = True, timeout: int = 900,
             **environment: str) -> subprocess.CompletedProcess:
    """A real process from the repository's root, with further environment variables."""
    done = subprocess.run(list(map(str, command)), cwd=ROOT, text=True, capture_output=True, timeout=timeout,
                          env={**os.environ, 'PYTHON': sys.executable, **environment}, check=False)
    assert not (check and done.returncode), (
        f'{command} ended with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}')
    return done


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return str(listener.getsockname()[1])
