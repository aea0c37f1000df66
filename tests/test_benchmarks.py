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
