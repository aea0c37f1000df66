"""Two processes on one machine share the teacher forward passes, and stop learning from targets together."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS

from ckd_mm.compat import prepare_distributed
from ckd_mm.students import CheckpointDistill
from ckd_mm.targets import TargetFile

from ..conftest import DEMO, resnet
from ..helpers import in_two_processes, trajectory, weights_of, with_statistics

HELD_OUT = 51  # an odd number: one process looks at more than the other
IMAGES, VIEWS = 200, 2  # 400 rows: 50 batches of 8, which are a block of 32 and one of 18


@pytest.fixture(scope='module')
def both(tmp_path_factory):
    """The same run by one process and by two, which take half a batch each; GroupNorm, as BatchNorm would
    take its statistics from half a batch. The teachers are not trained at all, and soon overtaken."""
    folder, teachers = tmp_path_factory.mktemp('targets'), []
    trajectory(folder / 'given', epochs=(1, 2), model=with_statistics(resnet(2)),
               held_out=dict(held_out=HELD_OUT, seed=0))
    config = Config.fromfile(DEMO)
    config.merge_from_dict({
        'custom_imports': dict(imports=['ckd_mm']), 'val_dataloader.dataset.indices': 100,
        'train_dataloader.dataset.indices': IMAGES + HELD_OUT,
        'train_cfg.max_epochs': 3, 'default_hooks.checkpoint.max_keep_ckpts': 3, 'student_alone': False,
        'optim_wrapper.optimizer.lr': 0.1, 'distill.ce_weight': 1.0, 'distill.kd_weight': 0.1,
        'distill.aggregation': 'loss', 'distill.cache': dict(views=VIEWS),
        'distill.schedule': [dict(type='ckd_mm.StopWhenOvertakenHook', held_out=HELD_OUT)]})
    config.teacher, config.selector = dict(trajectory=str(folder / 'given')), dict(type='even', k=2)
    config.rehearsal = False  # it has teachers of its own
    config.model, config.probe = resnet(2, 8, norm_cfg=dict(type='GN', num_groups=2)), None
    config.train_dataloader.dataset.pipeline = [
        dict(type='RandomCrop', crop_size=8, padding=1), dict(type='PackInputs')]
    for name, batch in (('one', 16), ('two', 8)):
        config.train_dataloader.batch_size, config.work_dir = batch, str(folder / name)
        config.dump(folder / f'{name}.py')
    loss = CheckpointDistill.loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointDistill, 'loss',
                      lambda self, *batch: teachers.append(self.outside.ready) or loss(self, *batch))
        RUNNERS.build(Config.fromfile(folder / 'one.py')).train()
    config.launcher = 'pytorch'

    def train_together() -> None:
        prepare_distributed(config)
        RUNNERS.build(config).train()

    in_two_processes(train_together)
    assert not any(teachers), 'the teachers should be released when they have classified the held-out images'
    return folder / 'one', folder / 'two'


def test_same_targets(both):
    one, two = (TargetFile(folder / 'targets') for folder in both)
    two.check()
    for first, second in zip(*(file.read(np.arange(IMAGES * VIEWS)) for file in (one, two))):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
    assert json.loads((both[1] / 'stages.json').read_text())['targets']['processes'] == 2


def test_same_student(both):
    """After one epoch; later, rounding is amplified."""
    first, second = (weights_of(folder / 'student' / 'epoch_1.pth') for folder in both)
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=1e-3, atol=1e-4, msg=key)


def test_same_decision(both):
    """A process that went on distilling alone would wait for the other for ever."""
    one, two = (torch.load(folder / 'student' / 'epoch_3.pth', weights_only=False)['ckd_mm_overtaken']
                for folder in both)
    assert one == two and one['overtaken'] and one['wins'] == 1
    assert 'The teacher classifies' in ''.join(log.read_text() for log in both[1].glob('student/*/*.log'))
