"""A cohort of M needs M sets of weights and the activations of one network."""

import gc
import runpy
from functools import partial

import pytest
import torch
from mmengine.optim import OptimWrapper

from ckd_mm.students import CheckpointDistill
from ckd_mm.teachers import SnapshotEnsemble

from ..conftest import ROOT, resnet
from ..helpers import batch, trajectory, with_statistics

counting = runpy.run_path(str(ROOT / 'benchmarks' / 'live_bytes.py'))
LiveBytes, peak_bytes = counting['LiveBytes'], partial(counting['peak_bytes'], device=torch.device('cpu'))
IMAGES = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(9))
LOGITS = 16 * 10 * 4  # bytes of one teacher's
TEACHER, STUDENT = with_statistics(resnet(2, channels=8)), with_statistics(resnet(1))


@pytest.fixture
def cohort(tmp_path):
    snapshots = trajectory(tmp_path, epochs=(1, 2, 3, 4), model=TEACHER).snapshots
    return lambda teachers: SnapshotEnsemble(snapshots[:teachers])


def keep_activations(cohort: SnapshotEnsemble) -> SnapshotEnsemble:
    """What a cohort would do that holds M sets of them."""
    cohort.kept = []
    for module in cohort.networks.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _module, _inputs, output: cohort.kept.append(output))
    return cohort


def distilled_step(cohort: SnapshotEnsemble):
    torch.manual_seed(0)
    model = CheckpointDistill(STUDENT, cohort).train()
    model.teacher_logits(IMAGES[:1])  # prepares the teachers
    wrapper, data = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)), batch(16)
    return lambda: model.train_step(data, wrapper)


# ---------------------------------------------------------------- the counting
def test_bytes_are_counted_while_they_live():
    weight, kept = torch.ones(100), []
    with LiveBytes() as live:
        first = weight * 2  # 400 bytes
        second = first.double()  # 800
        view = second[:50].view(5, 10)
        assert live.now == 1200
        del first
        assert live.now == 800
        second.add_(1)
        weight.mul_(3)  # was there before
        kept.append(weight.view(10, 10))
        del second
        assert live.now == 800 and view.shape == (5, 10)
        del view
        assert live.now == 0
    assert live.peak == 1200


def test_what_a_backward_pass_keeps_is_counted():
    """Three layers of squares keep their three inputs; without gradients two tensors live at a time."""
    start = torch.ones(100, requires_grad=True)
    assert peak_bytes(lambda: start.square().square().square()) == 3 * 400
    with torch.no_grad():
        assert peak_bytes(lambda: start.square().square().square()) == 2 * 400


# ---------------------------------------------------------------- the cohort
def forward_peak(ensemble: SnapshotEnsemble) -> int:
    return peak_bytes(lambda: ensemble(IMAGES))


def test_four_teachers_take_the_activations_of_one(cohort):
    """And the logits of four; four sets of activations would be seen."""
    one, four = forward_peak(cohort(1)), forward_peak(cohort(4))
    assert one >= 2 * IMAGES.nbytes * 8 / 3  # input and output of a layer of 8 channels
    assert four <= one + 4 * LOGITS
    kept = [forward_peak(keep_activations(cohort(teachers))) for teachers in (1, 4)]
    assert kept[1] > max(kept[0], one) + 4 * LOGITS


def test_nothing_but_the_logits_stays(cohort):
    ensemble = cohort(4)
    with LiveBytes() as live:
        logits = ensemble(IMAGES)
        assert live.now == logits.nbytes == 4 * LOGITS


def test_four_teachers_are_four_sets_of_weights(cohort):
    """Neither the files' contents nor the weights the networks began with stay."""
    with LiveBytes() as live:
        ensemble = cohort(4)
        gc.collect()
        held = live.now
    weights = sum(value.nbytes for value in ensemble.networks[0].state_dict().values()
                  if value.is_floating_point())
    # counters, means and standard deviations of the inputs are small
    assert 4 * weights <= held < 4.1 * weights


# ---------------------------------------------------------------- a distilled step
def test_a_distilled_step_takes_the_activations_of_one_teacher(cohort):
    """The student's backward pass with its kept activations included."""
    one, four = (peak_bytes(distilled_step(cohort(teachers))) for teachers in (1, 4))
    assert four - one < forward_peak(cohort(1))
    kept = peak_bytes(distilled_step(keep_activations(cohort(4))))
    assert kept - one > forward_peak(cohort(1))
