"""What a process holds does not grow: over the steps of a training, over runs in one process."""

import gc
import os
import threading
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS

from ckd_mm.pipeline.stage_runner import StageRunner

from ..conftest import distil_config
from .planted import config_in

PAGE = os.sysconf('SC_PAGE_SIZE')


def held(*models: torch.nn.Module) -> dict[str, int]:
    """How much of what this process holds; memory in MiB."""
    gc.collect()
    tensors = sum(isinstance(item, torch.Tensor) for item in gc.get_objects())
    hooks = sum(len(getattr(module, name)) for model in models for module in model.modules()
                for name in ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks'))
    memory = int(Path('/proc/self/statm').read_text().split()[1]) * PAGE >> 20
    return dict(files=len(os.listdir('/proc/self/fd')), threads=threading.active_count(),
                tasks=len(os.listdir('/proc/self/task')), tensors=tensors, hooks=hooks, memory=memory)


def require_flat(rows: list[dict[str, int]], mebibytes: int) -> None:
    """From a third of the way on, when all that is kept is there."""
    first, last = rows[len(rows) // 3], rows[-1]
    memory = last.pop('memory') - first.pop('memory')
    assert last == first
    assert memory <= mebibytes, rows


@pytest.fixture
def is_whole(pytestconfig) -> bool:
    return pytestconfig.getoption('faults') == 'all'


class Held(Hook):
    """Notes what is held at the start of each epoch."""

    def __init__(self) -> None:
        self.rows, self.steps = [], 0

    def before_train_epoch(self, runner) -> None:
        self.rows.append(held(runner.model))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.steps += 1


def test_steps(tmp_path, is_whole, monkeypatch):
    """Of a student with two teachers, whose agreement is measured, with validations and checkpoints."""
    epochs, steps = (25, 80) if is_whole else (9, 10)
    config = distil_config(tmp_path / 'run', probe=None, rehearsal=False, train_cfg=dict(max_epochs=epochs))
    config.selector = dict(type='even', k=2)
    config.custom_hooks = [dict(type='ckd_mm.TrainAgreementHook')]
    config.train_dataloader.dataset.indices = config.train_dataloader.batch_size * steps
    hook, train = Held(), StageRunner.train

    def noting(runner, *args):
        if hasattr(runner.model, 'student'):
            runner.register_hook(hook)
        return train(runner, *args)

    monkeypatch.setattr(StageRunner, 'train', noting)
    RUNNERS.build(config).train()
    assert hook.steps == epochs * steps
    require_flat(hook.rows, 16)


def test_runs(tmp_path, is_whole):
    """Of all stages; each resumed once, when nothing is left to do."""
    rows = []
    for number in range(20 if is_whole else 3):
        config = config_in(tmp_path / str(number))
        RUNNERS.build(config).train()
        config.resume = True
        RUNNERS.build(config).train()
        rows.append(held())
    require_flat(rows, 64)
