"""Hints of FitNets in a whole run."""

import torch

from ..conftest import resnet
from ..helpers import feature_distiller, weights_of


def test_hints_teach_the_guided_layer_and_the_student_begins_with_it(run):
    """With a learning rate of nearly 0 the student ends with the weights that it started from."""
    hint = dict(distiller=feature_distiller(channels=(4, 4)), train_cfg=dict(max_epochs=3),
                optim_wrapper=dict(optimizer=dict(lr=0.05)))
    work_dir, summary = run(hint=hint, model=resnet(2), **{'optim_wrapper.optimizer.lr': 1e-12,
                                                           'default_hooks.checkpoint.max_keep_ckpts': 3})
    assert list(summary['seconds']) == ['teacher', 'select', 'hint', 'student']
    assert summary['cost']['student_epochs'] == 3 + 2
    first, last = weights_of(work_dir / 'hint' / 'epoch_1.pth'), weights_of(work_dir / 'hint.pth')
    moved = {key for key in last if not torch.equal(first[key], last[key])}
    assert {'backbone.conv1.weight', 'backbone.layer1.0.conv1.weight'} <= moved
    assert not {key for key in moved if key.startswith(('backbone.layer2', 'head'))}
    student = weights_of(work_dir / 'student.pth')
    assert last.keys() == student.keys()
    assert all(torch.allclose(last[key], student[key], atol=1e-7) for key in last
               if 'running' not in key and 'num_batches' not in key)
