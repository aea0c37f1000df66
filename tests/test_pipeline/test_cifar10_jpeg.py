"""The CIFAR-10 config on real JPEG files."""

import os
import tarfile
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import RUNNERS

from ..conftest import ROOT, resnet

ARCHIVE = ROOT.parent / 'shared' / 'data' / 'cifar10_jpeg.tar.xz'


@pytest.fixture
def cifar10(tmp_path):
    """The first images of each class."""
    root = os.environ.get('CKD_DATA_ROOT')
    if root and (Path(root) / 'cifar10' / 'train').is_dir():
        return Path(root) / 'cifar10'
    if not ARCHIVE.is_file():
        pytest.skip(f'needs CIFAR-10: neither $CKD_DATA_ROOT/cifar10 nor {ARCHIVE} is there')
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            if member.isfile() and int(Path(member.name).stem) % 250 == 0:
                archive.extract(member, tmp_path / 'cifar10')
    return tmp_path / 'cifar10'


def test_one_epoch_of_every_stage(cifar10, tmp_path):
    config = Config.fromfile(ROOT / 'configs' / 'ckd' / 'r34_r18_cifar10_jpeg.py')
    config.merge_from_dict({
        'work_dir': str(tmp_path / 'run'), 'train_cfg.max_epochs': 2, 'train_dataloader.batch_size': 16,
        'train_dataloader.num_workers': 0, 'val_dataloader.num_workers': 0,
        'train_dataloader.dataset.data_root': str(cifar10), 'train_dataloader.dataset.indices': 64,
        'val_dataloader.dataset.data_root': str(cifar10), 'val_dataloader.dataset.indices': 40,
        'probe.held_out': 32, 'probe.decoder_epochs': 1, 'teacher.snapshots.interval': 1
    })
    config.test_dataloader = config.val_dataloader
    # the networks of the config take minutes here; tests/test_configs.py builds them
    config.model, config.teacher.model = resnet(2), resnet(3)
    summary = RUNNERS.build(config).train()
    assert summary['selection']['epochs'][0] in (1, 2) and 0 <= summary['student']['accuracy_top1'] <= 100
    from ckd_mm.trajectory import Trajectory
    assert Trajectory.open(tmp_path / 'run').last.classes == (
        'airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')
