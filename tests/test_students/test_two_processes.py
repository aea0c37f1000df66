"""Under DistributedDataParallel (gloo, two processes), without find_unused_parameters: the gradients of one
process."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch.testing import assert_close

from ckd_mm.registry import MODELS

from ..conftest import resnet
from ..helpers import batch, cohort_of, feature_distiller, in_two_processes, trajectory, with_statistics

NORM = dict(norm_cfg=dict(type='GN', num_groups=2))  # BatchNorm would take its statistics from half a batch
STUDENT, TEACHER = (with_statistics(resnet(2, channels, **NORM)) for channels in (4, 8))


def algorithm(name: str, folder: Path):
    taught = dict(student=STUDENT, cohort=cohort_of(folder, 1, 3), distiller=feature_distiller())
    torch.manual_seed(3)
    return MODELS.build(dict(
        mutual=dict(type='ckd_mm.DeepMutualLearning', students=[STUDENT, TEACHER]),
        hints=dict(taught, type='ckd_mm.HintTraining'),
        distilled=dict(taught, type='ckd_mm.CheckpointDistill', reduction='sum',
                       kd_loss=dict(type='ckd_mm.DecoupledKDLoss')))[name])


def trained(model, module, halves) -> dict:
    """All weights after three steps."""
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01))
    model.train()
    for step in range(3):
        data = batch(12, seed=step)
        model.train_step({key: value[halves] for key, value in data.items()}, wrapper)
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def half(name: str, folder: Path) -> None:
    """One of two processes, which takes every second image."""
    dist.init_process_group('gloo')
    model = algorithm(name, folder)
    wrapped = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False)
    torch.save(trained(wrapped, model, slice(dist.get_rank(), None, 2)), folder / f'{dist.get_rank()}.pth')
    dist.destroy_process_group()


@pytest.mark.parametrize('name', ['mutual', 'hints', 'distilled'])
def test_two_processes_train_as_one(tmp_path, name):
    trajectory(tmp_path, model=TEACHER)
    in_two_processes(lambda: half(name, tmp_path))
    model = algorithm(name, tmp_path)
    start = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    whole = trained(model, model, slice(None))
    for rank in range(2):
        found = torch.load(tmp_path / f'{rank}.pth')
        assert list(found) == list(whole)
        for key, value in whole.items():
            assert_close(found[key], value, rtol=1e-3, atol=1e-5, msg=lambda text, key=key: f'{key}: {text}')
    changed = {key for key in whole if not torch.equal(whole[key], start[key])}
    assert changed == {key for key, parameter in model.named_parameters() if parameter.requires_grad}
