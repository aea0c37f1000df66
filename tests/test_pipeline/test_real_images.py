"""Configs on real images in JPEG files, from CKD_DATA_ROOT or the project's shared data."""

import json
import os
import tarfile
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS

from ckd_mm.trajectory import Trajectory

from ..conftest import ROOT, resnet

SHARED = ROOT.parent / 'shared' / 'data'


def images_of(name: str, archive: Path, folder: Path, wanted=lambda member: True) -> Path:
    """The data root: as it is, or extracted from the archive into ``folder``."""
    root = Path(os.environ.get('CKD_DATA_ROOT') or folder / 'nowhere') / name
    if (root / 'train').is_dir():
        return root
    if not archive.is_file():
        pytest.skip(f'needs images: neither $CKD_DATA_ROOT/{name} nor {archive} is there')
    with tarfile.open(archive) as file:
        for member in filter(wanted, file):
            file.extract(member, folder)
    return folder


def config_of(name: str, work_dir: Path, root: Path, images: int | list, tests: int | list,
              batch: int) -> Config:
    """The shipped config with fewer data and epochs; image size, classes and recipe are its own."""
    config = Config.fromfile(ROOT / 'configs' / 'ckd' / f'{name}.py')
    config.merge_from_dict({
        'work_dir': str(work_dir), 'train_cfg.max_epochs': 2, 'train_dataloader.batch_size': batch,
        'train_dataloader.num_workers': 0, 'train_dataloader.dataset.data_root': str(root),
        'val_dataloader.num_workers': 0, 'val_dataloader.dataset.data_root': str(root),
        'val_dataloader.batch_size': 4 * batch, 'probe.decoder_epochs': 1, 'teacher.snapshots.interval': 1})
    config.train_dataloader.dataset.indices, config.val_dataloader.dataset.indices = images, tests
    config.test_dataloader, config.student_alone = config.val_dataloader, False
    return config


def test_cifar10(tmp_path):
    """The first images of each class; the config's networks, which take minutes here, are built by
    tests/test_configs.py."""
    root = images_of('cifar10', SHARED / 'cifar10_jpeg.tar.xz', tmp_path / 'cifar10',
                     lambda member: member.isfile() and int(Path(member.name).stem) % 250 == 0)
    config = config_of('r34_r18_cifar10_jpeg', tmp_path / 'run', root, 64, 40, 16)
    config.probe.held_out = 32
    config.model, config.teacher.model = resnet(2), resnet(3)
    summary = RUNNERS.build(config).train()
    assert summary['selection']['epochs'][0] in (1, 2) and 0 <= summary['student']['accuracy_top1'] <= 100
    assert Trajectory.open(tmp_path / 'run').last.classes == (
        'airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')


def test_imagenet(tmp_path):
    """224 pixels, 1,000 classes, the config's networks: four images, beside 8 held out from the teacher."""
    root = images_of('imagenet_sample', SHARED / 'imagenet_sample_jpeg.tar', tmp_path / 'imagenet')
    images, tests = list(range(0, 1000, 84)), list(range(8))
    config = config_of('r34_r18_imagenet', tmp_path / 'run', root, images, tests, 2)
    config.merge_from_dict({'val_dataloader.dataset.split': 'train', 'probe.held_out': 8,
                            'probe.decoder_batch': 4})
    config.test_dataloader = config.val_dataloader
    summary = RUNNERS.build(config).train()
    assert set(summary['seconds']) == {'teacher', 'probe', 'select', 'student'}
    trajectory, plane = (json.loads((tmp_path / 'run' / name).read_text())
                         for name in ('trajectory.json', 'information_plane.json'))
    assert len(trajectory['classes']) == 1000
    assert [entry['iteration'] for entry in trajectory['snapshots']] == [2, 4]
    assert plane['notes']['image_size'] == [3, 224, 224] and len(plane['points']) == 2
    student = torch.load(tmp_path / 'run' / 'student.pth', weights_only=True)
    assert student['state_dict']['head.fc.weight'].shape == (1000, 512)
    assert student['meta']['iter'] == 12
