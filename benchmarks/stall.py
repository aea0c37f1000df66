"""How long training waits for a snapshot."""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from measure import wait_for_device
from mmengine.hooks import Hook
from sizes import run_on_four_digits
from workload import Workload

from ckd_mm.hooks import SnapshotHook


def snapshot_stall(work: Workload) -> list[float]:
    """Time inside ``SnapshotHook`` / time of ``torch.save`` of the same weights into the same folder.

    A real run of the preset's teacher on four digits, a snapshot an epoch. Before ``torch.save`` is timed,
    the hook's thread has finished: it would slow that down. Neither side waits for the disk itself
    (``torch.save`` leaves the file in the system's cache).
    """
    hook, saved = TimedSnapshotHook(work.device, interval=1), SavedByTorch(work.device)
    with tempfile.TemporaryDirectory() as folder:
        runner = run_on_four_digits(work, folder, 1 + work.repeats, default_hooks=dict(checkpoint=None))
        for one in (hook, saved):
            runner.register_hook(one)
        runner.train()
    # the first snapshot makes the memory for all of them, and the first file the folder
    return [ours / theirs for ours, theirs in zip(hook.seconds[1:], saved.seconds[1:])]


class TimedSnapshotHook(SnapshotHook):
    """Counts the seconds that training spends in the hook at the end of an epoch; elsewhere it does not
    wait."""

    def __init__(self, device: torch.device, **settings: Any) -> None:
        super().__init__(**settings)
        self.device = device
        self.seconds: list[float] = []

    def after_train_epoch(self, runner) -> None:
        wait_for_device(self.device)
        start = time.perf_counter()
        super().after_train_epoch(runner)
        wait_for_device(self.device)  # the copy holds the next step up
        self.seconds.append(time.perf_counter() - start)


class SavedByTorch(Hook):
    """``torch.save`` after each epoch, timed. What is not needed any more is deleted, on both sides."""
    priority = 'VERY_LOW'  # after SnapshotHook

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: list[float] = []

    def after_train_epoch(self, runner) -> None:
        snapshot = next(hook for hook in runner.hooks if isinstance(hook, SnapshotHook)).trajectory.last
        file = Path(runner.work_dir) / f'by_torch_{len(self.seconds)}.pth'
        wait_for_device(self.device)
        start = time.perf_counter()
        torch.save(runner.model.state_dict(), file)
        self.seconds.append(time.perf_counter() - start)
        for done in (file, snapshot.file):
            done.unlink()
