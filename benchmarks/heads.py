"""What heads on a teacher cost: while they teach, and while they are trained (DIH)."""

import copy
from collections.abc import Sequence
from pathlib import Path

from measure import Pair, paired_ratios
from steps import distilling, mmengine_contender
from workload import Workload, build, snapshots

from ckd_mm.students import CheckpointDistill
from ckd_mm.teachers import HeadTraining

STAGES = (
    0, 1, 2, 3)  # of the teacher, a head on each: k = 4 (3 of a wide residual network, which has no more)
TAU, CE_WEIGHT, KD_WEIGHT = 5.0, 0.9, 0.1  # the paper's


def dih_vs_kd(work: Workload) -> list[float]:
    """``CheckpointDistill.train_step`` with a head on each stage of the teacher, four, and the teacher itself
    / with the teacher alone.

    Heads are flattened or pooled as by default for the size of the images.
    """
    teacher, student = build(work.teacher), build(work.student)
    with snapshots(work, [teacher]) as (file, ):
        heads = HeadTraining(file, stages(work), tuple(work.images.shape[1:])).write(
            Path(file).with_name('heads.pth'))
        cohort = dict(type='ckd_mm.DIHTeacher', snapshot=file, heads=str(heads.file))
        loss = dict(type='ckd_mm.CohortKDLoss', tau=TAU, aggregation='loss')

        def make_pair() -> Pair:
            ours = CheckpointDistill(copy.deepcopy(student), cohort, loss, ce_weight=CE_WEIGHT,
                                     kd_weight=KD_WEIGHT)
            return mmengine_contender(ours, work), mmengine_contender(
                distilling(work, copy.deepcopy(student), [file]), work)

        return paired_ratios(make_pair, work.repeats, work.steps, work.device)


def stages(work: Workload) -> Sequence[int]:
    return STAGES[:3] if work.preset == 'wrn' else STAGES


def heads_vs_epoch(work: Workload) -> list[float]:
    """``HeadTraining.train_step`` with four heads on the frozen teacher / the teacher's own ``train_step``.
    An epoch of either is as many such steps."""
    teacher = build(work.teacher)
    with snapshots(work, [teacher]) as (file, ):

        def make_pair() -> Pair:
            heads = HeadTraining(file, stages(work), tuple(work.images.shape[1:]))
            return mmengine_contender(heads, work), mmengine_contender(copy.deepcopy(teacher), work)

        return paired_ratios(make_pair, work.repeats, work.steps, work.device)
