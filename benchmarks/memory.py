"""What a cohort of many needs beside a cohort of one."""

import tempfile
from pathlib import Path
from typing import List

from live_bytes import peak_bytes
from workload import Workload, build, normaliser

from ckd_mm.models import SnapshotEnsemble
from ckd_mm.trajectory import write_snapshot


def cohort4_memory(work: Workload) -> List[float]:
    """Peak of a forward pass of four teachers / of one, each without its weights. It is counted, not timed: n = 1."""
    inputs = normaliser(work.teacher, work.device)(work.images.to(work.device))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'teacher.pth'
        write_snapshot(file, build(work.teacher).state_dict(), epoch=1, iteration=1, lr=None, model=work.teacher, classes=None)

        def peak(teachers: int) -> int:
            cohort = SnapshotEnsemble([str(file)] * teachers).to(work.device)
            return peak_bytes(lambda: cohort(inputs), work.device)

        return [peak(4) / peak(1)]
