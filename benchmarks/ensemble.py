"""What a step with several snapshots as teachers costs, beside the least that it could cost."""

import copy
import tempfile
from pathlib import Path
from typing import List

from measure import Contender, Pair
from steps import compare, distilling, hand_written_step, mmengine_contender
from workload import Workload, build

from ckd_mm.trajectory import write_snapshot

TEACHERS = 4


def ensemble4_vs_floor(work: Workload) -> List[float]:
    """``CheckpointDistill.train_step`` with a ``SnapshotEnsemble`` of four / the hand-written step with the same four networks, one
    after another (:func:`steps.hand_written_step`: eager torch, nothing fused)."""
    teachers, student = [build(work.teacher) for _ in range(TEACHERS)], build(work.student)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f'teacher_{number}.pth' for number in range(TEACHERS)]
        for file, teacher in zip(files, teachers):
            write_snapshot(file, teacher.state_dict(), epoch=1, iteration=1, lr=None, model=work.teacher, classes=None)

        def make_pair() -> Pair:
            floor = hand_written_step(copy.deepcopy(teachers), copy.deepcopy(student), work)
            return mmengine_contender(distilling(copy.deepcopy(student), *files), work), Contender(floor, work.tensors)

        return compare(make_pair, work)
