"""The ImageNet config on real images: 224 pixels, 1,000 classes."""

import json
import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS

from ..conftest import ROOT

ARCHIVE = ROOT.parent / 'shared' / 'data' / 'imagenet_sample_jpeg.tar'


@pytest.fixture
def imagenet(tmp_path):
    """One image of each class, from CKD_DATA_ROOT or the project's shared data."""
    root = os.environ.get('CKD_DATA_ROOT')
    if root and (Path(root) / 'imagenet_sample' / 'train').is_dir():
        return Path(root) / 'imagenet_sample'
    if not ARCHIVE.is_file():
        pytest.skip(f'needs the ImageNet sample: neither $CKD_DATA_ROOT/imagenet_sample nor {ARCHIVE} is '
                    'there')
    import tarfile
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / 'data')
    return tmp_path / 'data'


def test_four_iterations_of_every_stage(imagenet, tmp_path):
    config = Config.fromfile(ROOT / 'configs' / 'ckd' / 'r34_r18_imagenet.py')
    work_dir = tmp_path / 'run'
    # the data are fewer; networks, image size, classes and recipe are the config's
    config.merge_from_dict({
        'work_dir': str(work_dir), 'train_cfg.max_epochs': 2, 'student_alone': True,
        'train_dataloader.batch_size': 2, 'train_dataloader.num_workers': 0,
        'train_dataloader.dataset.data_root': str(imagenet), 'val_dataloader.num_workers': 0,
        'val_dataloader.dataset.data_root': str(imagenet), 'val_dataloader.dataset.split': 'train',
        'val_dataloader.batch_size': 4, 'probe.held_out': 8, 'probe.decoder_epochs': 1,
        'probe.decoder_batch': 4, 'teacher.snapshots.interval': 1
    })
    config.train_dataloader.dataset.indices = list(range(0, 1000,
                                                         84))  # 12 images, 8 held out from the teacher
    config.val_dataloader.dataset.indices = list(range(8))
    config.test_dataloader = config.val_dataloader
    summary = RUNNERS.build(config).train()
    assert set(summary['seconds']) == {'teacher', 'probe', 'select', 'student', 'student_alone'}
    trajectory = json.loads((work_dir / 'trajectory.json').read_text())
    assert len(trajectory['classes']) == 1000
    assert [entry['iteration'] for entry in trajectory['snapshots']] == [2, 4]
    plane = json.loads((work_dir / 'information_plane.json').read_text())
    assert plane['notes']['image_size'] == [3, 224, 224] and len(plane['points']) == 2
    student = torch.load(work_dir / 'student.pth', weights_only=True)
    assert student['state_dict']['head.fc.weight'].shape == (1000, 512)
    assert student['meta']['iter'] == 12
