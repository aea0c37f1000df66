"""What heads on a teacher cost: while they teach, and while they are trained (DIH)."""

import copy
import tempfile
from pathlib import Path
from typing import List, Sequence

from measure import Pair, paired_ratios
from steps import distilling, mmengine_contender
from workload import Workload, build

from ckd_mm.models import CheckpointDistill, HeadTraining
from ckd_mm.trajectory import write_snapshot

STAGES = (0, 1, 2, 3)  # of the teacher, a head on each: k = 4 (3 of a wide residual network, which has no more)
TAU, CE_WEIGHT, KD_WEIGHT = 5.0, 0.9, 0.1  # the paper's


def dih_vs_kd(work: Workload) -> List[float]:
    """``CheckpointDistill.train_step`` with a head on each stage of the teacher, four, and the teacher itself / with the teacher
    alone.

    Heads are flattened or pooled as by default for the size of the images.
    """
    teacher, student = build(work.teacher), build(work.student)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'teacher.pth'
        write_snapshot(file, teacher.state_dict(), epoch=1, iteration=1, lr=None, model=work.teacher, classes=None)
        heads = HeadTraining(str(file), stages(work), tuple(work.images.shape[1:])).write(Path(folder) / 'heads.pth')
        cohort = dict(type='ckd_mm.DIHTeacher', snapshot=str(file), heads=str(heads.file))
        loss = dict(type='ckd_mm.CohortKDLoss', tau=TAU, aggregation='loss')

        def make_pair() -> Pair:
            ours = CheckpointDistill(copy.deepcopy(student), cohort, loss, ce_weight=CE_WEIGHT, kd_weight=KD_WEIGHT)
            return mmengine_contender(ours, work), mmengine_contender(distilling(copy.deepcopy(student), file), work)

        return paired_ratios(make_pair, work.repeats, work.steps, work.device)


def stages(work: Workload) -> Sequence[int]:
    return STAGES[:3] if work.preset == 'wrn' else STAGES


def heads_vs_epoch(work: Workload) -> List[float]:
    """``HeadTraining.train_step`` with four heads on the frozen teacher / the teacher's own ``train_step``. An epoch of either is
    as many such steps."""
    teacher = build(work.teacher)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'teacher.pth'
        write_snapshot(file, teacher.state_dict(), epoch=1, iteration=1, lr=None, model=work.teacher, classes=None)

        def make_pair() -> Pair:
            heads = HeadTraining(str(file), stages(work), tuple(work.images.shape[1:]))
            return mmengine_contender(heads, work), mmengine_contender(copy.deepcopy(teacher), work)

        return paired_ratios(make_pair, work.repeats, work.steps, work.device)
