"""What a snapshot takes on disk."""

import tempfile
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner
from workload import Workload


def run_on_four_digits(work: Workload, folder: str, epochs: int, **settings: Any) -> Runner:
    """A real run of the preset's teacher, ready to be trained; checkpoints and snapshots do not depend on the
    data."""
    size = work.images.shape[-1]
    return Runner.from_cfg(
        Config(
            dict(default_scope='mmpretrain',
                 work_dir=folder,
                 experiment_name=f'benchmark_{Path(folder).name}',
                 log_level='ERROR',
                 model=work.teacher,
                 train_dataloader=dict(
                     batch_size=2,
                     num_workers=0,
                     sampler=dict(type='DefaultSampler', shuffle=True),
                     dataset=dict(type='ckd_mm.Digits',
                                  split='train',
                                  indices=4,
                                  pipeline=[dict(type='Resize', scale=size),
                                            dict(type='PackInputs')])),
                 train_cfg=dict(by_epoch=True, max_epochs=epochs),
                 optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
                 **settings)))


def snapshot_bytes(work: Workload) -> list[float]:
    """File of ``SnapshotHook`` / file of mmengine's ``CheckpointHook``, both after one epoch of the same
    SGD-momentum run.

    It is counted, not timed: n = 1.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_on_four_digits(work,
                           folder,
                           1,
                           default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
                           custom_hooks=[dict(type='ckd_mm.SnapshotHook', interval=1)]).train()
        snapshot, checkpoint = Path(folder) / 'snapshots' / 'epoch_1.pth', Path(folder) / 'epoch_1.pth'
        return [snapshot.stat().st_size / checkpoint.stat().st_size]
