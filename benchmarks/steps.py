"""What a training step costs, beside the least that it could cost."""

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from measure import Contender, Pair, paired_ratios
from torch import Tensor, nn
from workload import Workload, build, confident_teachers, normaliser, sgd, snapshots

from ckd_mm.students import CheckpointDistill

TAU, CE_WEIGHT, KD_WEIGHT = 4.0, 0.1, 0.9


def kd_step_vs_floor(work: Workload) -> list[float]:
    """``CheckpointDistill.train_step`` with one snapshot as teacher / :func:`hand_written_step`."""
    return step_vs_floor(work, 1)


def ensemble4_vs_floor(work: Workload) -> list[float]:
    """The same with a ``SnapshotEnsemble`` of four, in the hand-written step one after another."""
    return step_vs_floor(work, 4)


def step_vs_floor(work: Workload, count: int) -> list[float]:
    teachers, student = confident_teachers(work, count), build(work.student)
    with snapshots(work, teachers) as files:

        def make_pair() -> Pair:
            floor = hand_written_step(copy.deepcopy(teachers), copy.deepcopy(student), work)
            ours = distilling(copy.deepcopy(student), files)
            return mmengine_contender(ours, work), Contender(floor, work.tensors)

        return compare(make_pair, work)


def compare(make_pair: Callable[[], Pair], work: Workload) -> list[float]:
    tolerance = 5e-2 if work.dtype == 'bf16' else 1e-3
    return paired_ratios(make_pair, work.repeats, work.steps, work.device, tolerance)


def distilling(student: nn.Module, snapshots: Sequence[str]) -> CheckpointDistill:
    return CheckpointDistill(student, cohort=dict(type='ckd_mm.SnapshotEnsemble', snapshots=list(snapshots)),
                             kd_loss=dict(type='ckd_mm.CohortKDLoss', tau=TAU), ce_weight=CE_WEIGHT,
                             kd_weight=KD_WEIGHT)


def mmengine_contender(model: nn.Module, work: Workload) -> Contender:
    """A step as mmengine's training loops take it."""
    model.to(work.device).train()
    wrapper = work.optim_wrapper(model)
    return Contender(lambda batch: model.train_step(batch, wrapper)['loss'].detach(), work.collated)


def hand_written_step(teachers: Sequence[nn.Module], student: nn.Module,
                      work: Workload) -> Callable[[tuple], Tensor]:
    """The floor: distillation as one writes it with torch alone, in the fastest order that was found: eager,
    maps contiguous. (On a CPU our teachers are in channels_last.) Called with images and labels.

    Teachers go first, one after another: beside the student's activations they would need fresh memory, 7 %
    slower on CPU. Likewise gradients are freed just before new ones take their place (2 to 4 %).
    """
    for teacher in teachers:
        teacher.to(work.device).eval().requires_grad_(False)
    student.to(work.device).train()
    optimizer = sgd(student)
    normalise = normaliser(work.student, work.device)

    def step(batch: tuple) -> Tensor:
        images, labels = (part.to(work.device, non_blocking=True) for part in batch)
        with torch.autocast(work.device.type, torch.bfloat16, enabled=work.dtype == 'bf16'):
            inputs = normalise(images)
            with torch.no_grad():
                softened = [F.softmax(teacher(inputs).float() / TAU, dim=1) for teacher in teachers]
            student_logits = student(inputs).float()
        ce = F.cross_entropy(student_logits, labels)
        p = softened[0] if len(softened) == 1 else torch.stack(softened).mean(dim=0)
        kd = F.kl_div(F.log_softmax(student_logits / TAU, dim=1), p, reduction='batchmean') * TAU**2
        loss = CE_WEIGHT * ce + KD_WEIGHT * kd
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
