"""mmpretrain's CIFAR on two processes: it waits, where it is built, until all processes build it."""

import json
import pickle

import numpy as np

from ..conftest import ROOT
from ..helpers import in_two_processes

CONFIG = """
_base_ = '{root}/configs/ckd/r34_r18_cifar10.py'
custom_imports = dict(imports=['ckd_mm', 'any_cifar'], allow_failed_imports=False)
model = dict(_delete_=True, type='ImageClassifier',
             backbone=dict(type='ckd_mm.CIFARResNet', depth=8, stem_channels=4, base_channels=4),
             neck=dict(type='GlobalAveragePooling'),
             head=dict(type='LinearClsHead', num_classes=10, in_channels=16,
                       loss=dict(type='CrossEntropyLoss')))
teacher = dict(_delete_=True, model=model, train_cfg=dict(max_epochs=3), param_scheduler=[],
               snapshots=dict(interval=1))
teacher['model'] = dict(model)
teacher['model'].pop('_delete_')
train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler, custom_hooks = [], []
train_dataloader = dict(batch_size=16)
probe, selector = dict(held_out=20, num_images=None, decoder_epochs=1), 'calibration'
distill = dict(cache=dict(views=1))
env_cfg = dict(dist_cfg=dict(backend='gloo', timeout=60))
"""


def test_a_whole_run(tmp_path, tool, monkeypatch):
    """Three snapshots for two processes, so that one of them has none to measure in the end. Random images in
    the files of CIFAR-10, and a module that skips their MD5."""
    images = tmp_path / 'data' / 'cifar10' / 'cifar-10-batches-py'
    images.mkdir(parents=True)
    random = np.random.RandomState(0)
    for name in [*(f'data_batch_{number}' for number in range(1, 6)), 'test_batch']:
        pixels = random.randint(0, 256, (20, 3072)).astype(np.uint8)
        labels = random.randint(0, 10, 20).tolist()
        (images / name).write_bytes(pickle.dumps(dict(data=pixels, labels=labels)))
    names = dict(label_names=[f'class {number}' for number in range(10)])
    (images / 'batches.meta').write_bytes(pickle.dumps(names))
    (tmp_path / 'any_cifar.py').write_text('from mmpretrain.datasets import CIFAR10\n'
                                           'CIFAR10._check_integrity = lambda self: True\n')
    (tmp_path / 'config.py').write_text(CONFIG.format(root=ROOT))
    run = tmp_path / 'run'
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv('CKD_DATA_ROOT', str(tmp_path / 'data'))
    command = ('train.py', tmp_path / 'config.py', '--launcher', 'pytorch', '--work-dir', run)
    assert [status for status, _, _ in in_two_processes(lambda: tool(*command))] == [0, 0]
    summary = json.loads((run / 'summary.json').read_text())
    assert summary['processes'] == 2 and summary['student']['epoch'] == 1
    rows = json.loads((run / 'select' / 'scores_calibration.json').read_text())['rows']
    assert [row['epoch'] for row in rows] == [1, 2, 3]
