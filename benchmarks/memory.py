"""What a cohort of many needs beside a cohort of one."""

from live_bytes import peak_bytes
from workload import Workload, build, normaliser, snapshots

from ckd_mm.teachers import SnapshotEnsemble


def cohort4_memory(work: Workload) -> list[float]:
    """Peak of a forward pass of four teachers / of one, each less its weights. Counted, not timed: n = 1."""
    inputs = normaliser(work.teacher, work.device)(work.images.to(work.device))
    with snapshots(work, [build(work.teacher)]) as files:

        def peak(teachers: int) -> int:
            cohort = SnapshotEnsemble(files * teachers).to(work.device)
            return peak_bytes(lambda: cohort(inputs), work.device)

        return [peak(4) / peak(1)]
