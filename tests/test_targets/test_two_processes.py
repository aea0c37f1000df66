"""Two processes on one machine share the work of asking the teachers."""

import json
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config

from ckd_mm.targets import TargetFile

from ..conftest import ROOT, free_port, resnet, run_tool
from ..helpers import trajectory, with_statistics

IMAGES, VIEWS = 200, 2  # 400 rows: 50 batches of 8, which are a block of 32 and one of 18


@pytest.fixture(scope='module')
def both(tmp_path_factory):
    """The same run by one process and by two, which take half a batch each; GroupNorm, as of all students in
    two processes here."""
    folder = tmp_path_factory.mktemp('targets')
    trajectory(folder / 'given', epochs=(1, 2), model=with_statistics(resnet(2)))
    config = Config.fromfile(ROOT / 'configs' / 'ckd' / 'demo_digits.py')
    config.merge_from_dict({
        'train_dataloader.dataset.indices': IMAGES, 'train_cfg.max_epochs': 2, 'student_alone': False,
        'optim_wrapper.optimizer.lr': 0.02, 'distill.aggregation': 'loss', 'distill.cache': dict(views=VIEWS)
    })
    config.teacher, config.selector, config.probe = dict(trajectory=str(folder / 'given')), dict(type='even',
                                                                                                 k=2), None
    config.model = resnet(1, norm_cfg=dict(type='GN', num_groups=2))
    config.train_dataloader.dataset.pipeline = [
        dict(type='RandomCrop', crop_size=8, padding=2), dict(type='PackInputs')
    ]
    for name, batch in (('one', 16), ('two', 8)):
        config.train_dataloader.batch_size = batch
        config.dump(folder / f'{name}.py')
    run_tool(sys.executable, 'tools/train.py', folder / 'one.py', '--work-dir', folder / 'one')
    run_tool('tools/dist_train.sh', folder / 'two.py', 2, '--work-dir', folder / 'two', PORT=free_port())
    return folder / 'one', folder / 'two'


def test_same_targets(both):
    one, two = (TargetFile(folder / 'targets') for folder in both)
    two.check()
    rows = np.arange(IMAGES * VIEWS)
    for first, second in zip(one.read(rows), two.read(rows)):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
    assert json.loads((both[1] / 'stages.json').read_text())['targets']['processes'] == 2


def test_same_student(both):
    first, second = (torch.load(folder / 'student.pth', weights_only=True)['state_dict'] for folder in both)
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=1e-3, atol=1e-4, msg=key)
