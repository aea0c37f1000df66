"""What students that learn from each other cost, beside the same students alone."""

import copy

import torch
from measure import Contender, Pair, check_same_work, keep_freed_memory, paired_ratios
from steps import mmengine_contender
from torch import Tensor, nn
from workload import Workload, build

from ckd_mm.students import DeepMutualLearning


def dml_vs_students(work: Workload) -> list[float]:
    """``DeepMutualLearning.train_step`` of two of the preset's students / ``train_step`` of one plain
    mmpretrain classifier and then of the other, each with an optimizer of its own. That they do the same work
    is checked with ``kd_weight=0``.

    Mutual learning holds the activations of both students at once, and must: each learns from the other's
    prediction.
    """
    keep_freed_memory()
    students = [build(work.student), build(work.student)]

    def pair_with(kd_weight: float) -> Pair:
        mutual = DeepMutualLearning(copy.deepcopy(students), kd_weight=kd_weight)
        return mmengine_contender(mutual, work), one_after_another(copy.deepcopy(students), work)

    check_same_work(pair_with(0), 5e-2 if work.dtype == 'bf16' else 1e-3)
    return paired_ratios(lambda: pair_with(1.0), work.repeats, work.steps, work.device)


def one_after_another(students: list[nn.Module], work: Workload) -> Contender:
    """A step of each; a loader of its own would give each a batch of its own, so the batch is collated
    twice."""
    contenders = [mmengine_contender(student, work) for student in students]

    def step(batches: list[dict]) -> Tensor:
        return torch.stack([contender.step(batch) for contender, batch in zip(contenders, batches)]).sum()

    return Contender(step, lambda: [contender.batch() for contender in contenders])
