"""Two processes measure the agreement of student and teacher that one does, in evaluations and in
training."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from ckd_mm.compat import prepare_distributed

from ..conftest import resnet
from ..helpers import in_two_processes, trajectory, with_statistics

NORM = dict(norm_cfg=dict(type='GN', num_groups=2))  # BatchNorm would see half a batch


def measure(config) -> dict:
    """The metrics of a test, and what the hook counted in an epoch."""
    runner = Runner.from_cfg(config)
    runner.train()
    hook = next(hook for hook in runner.hooks if type(hook).__name__ == 'TrainAgreementHook')
    return dict(runner.test(), **hook.last)


def test_two_processes_find_what_one_finds(digits_run, tmp_path):
    """99 images are tested: the sampler gives the second process one of them twice, which must not count. The
    learning rate is 0, so that both train the same student."""
    run = trajectory(tmp_path / 'teacher', epochs=(1, 2), model=with_statistics(resnet(2)))
    cohort = dict(type='ckd_mm.SnapshotEnsemble', snapshots=[str(snapshot.file) for snapshot in run])
    config = digits_run(epochs=1, images=64)
    config.model = dict(type='ckd_mm.CheckpointDistill', student=with_statistics(resnet(1, **NORM)),
                        cohort=cohort, kd_weight=.9)
    config.merge_from_dict({
        'optim_wrapper.optimizer.lr': 0., 'test_dataloader.dataset.indices': 99,
        'test_dataloader.batch_size': 32, 'val_dataloader': None, 'val_evaluator': None, 'val_cfg': None,
        'custom_hooks': [dict(type='ckd_mm.TrainAgreementHook')]
    })
    config.test_evaluator = [dict(type='Accuracy'), dict(type='ckd_mm.KDMetric', teacher=cohort)]
    torch.manual_seed(0)
    student = Runner.build_model(copy.copy(config), config.model)
    torch.save(student.state_dict(), tmp_path / 'start.pth')
    config.load_from = str(tmp_path / 'start.pth')
    two = copy.deepcopy(config)
    two.merge_from_dict(
        dict(launcher='pytorch', work_dir=str(tmp_path / 'two'), experiment_name='agreement_two'))
    two.train_dataloader.batch_size = config.train_dataloader.batch_size // 2
    both = in_two_processes(lambda: prepare_distributed(two) or measure(two))
    one = measure(Config(config.to_dict(), format_python_code=False))
    assert set(one) == {'accuracy/top1', 'kd/error', 'kd/divergence', 'epoch', 'kd_error', 'kd_loss', 'ce'}
    for found in both:
        assert found == {name: pytest.approx(value, rel=1e-4) for name, value in one.items()}
