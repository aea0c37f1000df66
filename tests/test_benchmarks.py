"""The benchmarks measure what they say; their limits are checked by running them."""

import dataclasses
import sys

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ckd_mm.selection.conditional_mutual_information import conditional_mutual_information

from .conftest import ROOT, resnet
from .helpers import with_statistics


@pytest.fixture
def benchmarks(monkeypatch):
    """The benchmarks' modules, with a workload that takes no time."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(ROOT / 'benchmarks'))
    import looks
    import measure
    import run
    work = run.make_workload('small', 'cpu', 'fp32', repeats=2)
    small = torch.randint(256, (32, 3, 8, 8), dtype=torch.uint8)
    model = with_statistics(resnet(2))
    yield dict(looks=looks, measure=measure, run=run, work=dataclasses.replace(work, images=small, teacher=model, student=model))
    for name in set(sys.modules) - before:
        if str(ROOT / 'benchmarks') in str(getattr(sys.modules[name], '__file__', '')):
            del sys.modules[name]


def test_four_teachers_stay_within_the_memory_of_one(benchmarks):
    run, work = benchmarks['run'], benchmarks['work']
    assert 1 <= run.cohort4_memory(work)[0] < run.BENCHMARKS['cohort4_memory'].limit


def test_the_contenders_of_the_scores_find_the_same_number(benchmarks):
    """Else an error is raised."""
    run, work = benchmarks['run'], benchmarks['work']
    for name in ('cmi_vs_forward', 'calibration_vs_forward'):
        run.BENCHMARKS[name].ratios(work)
    with pytest.raises(RuntimeError, match='do not do the same work'):
        benchmarks['looks'].score_vs_forward(work, 'calibration', lambda logits, labels: -nn.functional.cross_entropy(logits, labels) - 1)


def test_mutual_learning_is_timed_against_both_students(benchmarks, monkeypatch):
    """Without weight the pair does the same work; with it the students differ, and both sides have trained two."""
    run, work = benchmarks['run'], benchmarks['work']
    import mutual
    pairs = []
    monkeypatch.setattr(mutual, 'keep_freed_memory', lambda: None)  # it would last
    monkeypatch.setattr(mutual, 'paired_ratios', lambda make_pair, *settings: pairs.append(make_pair()) or [1.0])
    assert run.BENCHMARKS['dml_vs_students'].ratios(work) == [1.0]
    ours, plain = pairs[0]
    alone = [plain.step(plain.batch()).item() for _ in range(2)]
    together = [ours.step(ours.batch()).item() for _ in range(2)]
    assert together[0] > alone[0] > alone[1]
    benchmarks['measure'].check_same_work((plain, plain), 1.0)
    with pytest.raises(RuntimeError, match='do not do the same work'):
        benchmarks['measure'].check_same_work((ours, plain), 1e-3)


def test_cmi_by_hand_is_cmi(benchmarks):
    torch.manual_seed(0)
    logits, labels = torch.randn(40, 5, dtype=torch.float64), torch.randint(5, (40, ))
    assert_close(benchmarks['looks'].hand_written_cmi(logits, labels), conditional_mutual_information(logits.log_softmax(dim=1), labels))


def test_the_epoch_is_counted_nine_times(benchmarks, monkeypatch):
    """A tenth of the images is probed, on nine tenths the teacher is trained, of which one is timed."""
    looks, work = benchmarks['looks'], benchmarks['work']
    pairs = []

    def paired_ratios(make_pair, repeats, steps, device, tolerance=None):
        pairs.append(make_pair())
        return [1.8]

    monkeypatch.setattr(looks, 'paired_ratios', paired_ratios)
    probed = []
    monkeypatch.setattr(looks, 'estimate_point', lambda network, images, settings, device, log: probed.append((len(images), settings)))
    assert looks.probe_vs_epoch(work) == pytest.approx([0.2])
    probe, ninth = pairs[0]
    probe.step(probe.batch())
    assert probed == [(256, looks.EstimatorSettings())]
    trained = ninth.batch()
    assert sum(len(batch['inputs']) for batch in trained) == 256 and len(ninth.step(trained)) == 256 // 32


def test_what_heads_are_compared_with(benchmarks, monkeypatch):
    """Two heads and their teacher against the teacher alone, the same student; and their training against the teacher's."""
    import heads
    pairs = []
    monkeypatch.setattr(heads, 'STAGES', (0, 1))
    monkeypatch.setattr(heads, 'paired_ratios', lambda make_pair, *_: pairs.append([taken(contender) for contender in make_pair()]))

    def taken(contender) -> tuple:
        """The model of a step, and the names of what a step changes."""
        model = next(cell.cell_contents for cell in contender.step.__closure__ if isinstance(cell.cell_contents, nn.Module))
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        contender.step(contender.batch())
        return model, {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}

    heads.dih_vs_kd(benchmarks['work'])
    heads.heads_vs_epoch(benchmarks['work'])
    ((ours, learned), (plain, alone)), ((training, trained), (teacher, whole)) = pairs
    assert ours.cohort.member_names == ['head 0', 'head 1', 'teacher'] and len(plain.cohort.networks) == 1 and learned == alone
    assert trained == {f'heads.{index}.fc.{part}' for index in (0, 1) for part in ('weight', 'bias')}
    assert trained == {name for name, _ in training.named_parameters()}
    assert {'backbone.conv1.weight', 'head.fc.weight'} <= whole and teacher.training
