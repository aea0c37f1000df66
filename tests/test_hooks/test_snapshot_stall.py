"""The benchmark of SnapshotHook counts what it says."""

import dataclasses
import sys
import time

import pytest
import torch

from ckd_mm.trajectory import SnapshotWriter, finish_writing

from ..conftest import ROOT, resnet
from ..helpers import with_statistics


def test_the_wait_for_a_snapshot_over_a_torch_save(monkeypatch):
    """Both slowed down: 0.1 s in the hook over 0.2 s in torch.save, whatever the thread does meanwhile."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(ROOT / 'benchmarks'))
    import run
    import stall
    work = dataclasses.replace(run.make_workload('small', 'cpu', 'fp32', repeats=2), teacher=with_statistics(resnet(2)),
                               images=torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    write, save, files = SnapshotWriter.write, torch.save, []

    def slow_write(*arguments, **named) -> None:
        time.sleep(0.1)
        write(*arguments, **named)

    def slow_save(what, file) -> None:
        if isinstance(file, stall.Path):
            files.append(file.parent)
        time.sleep(0.2)
        save(what, file)

    monkeypatch.setattr(SnapshotWriter, 'write', slow_write)
    monkeypatch.setattr(torch, 'save', slow_save)
    ratios = run.BENCHMARKS['snapshot_stall'].ratios(work)
    finish_writing()
    assert ratios == pytest.approx([0.5] * 2, rel=0.4) and len(files) == 3 and len(set(files)) == 1
    for name in set(sys.modules) - before:
        if str(ROOT / 'benchmarks') in str(getattr(sys.modules[name], '__file__', '')):
            del sys.modules[name]
