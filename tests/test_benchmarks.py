"""The benchmarks measure what they say; their limits are checked by running them."""

import copy
import dataclasses
import gc
import importlib
import io
import json
import multiprocessing
import os
import sys
import time
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from PIL import Image
from torch import nn
from torch.testing import assert_close

from ckd_mm.selection.conditional_mutual_information import conditional_mutual_information

from .conftest import ROOT, resnet
from .helpers import with_statistics


@pytest.fixture(scope='module')
def modules():
    """The benchmarks' modules, imported once: some register a data set."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / 'benchmarks'))
        import looks
        import measure
        import run
        yield dict(looks=looks, measure=measure, run=run)
    for name in set(sys.modules) - before:
        if str(ROOT / 'benchmarks') in str(getattr(sys.modules[name], '__file__', '')):
            del sys.modules[name]


@pytest.fixture
def benchmarks(modules):
    """With a workload that takes no time."""
    work = modules['run'].make_workload('small', 'cpu', 'fp32', repeats=2)
    small = torch.randint(256, (32, 3, 8, 8), dtype=torch.uint8)
    model = with_statistics(resnet(2))
    return dict(modules, work=dataclasses.replace(work, images=small, teacher=model, student=model))


@pytest.mark.parametrize('preset, parameters, classes, images', [
    ('wrn', (2_255_156, 569_780), 100, (128, 3, 32, 32)),  # 2.26 and 0.57 million in the literature
    ('imagenet_r50', (25_557_032, 11_689_512), 1000, (256, 3, 224, 224))])  # torchvision's counts
def test_networks_of_the_presets_for_gpus(benchmarks, preset, parameters, classes, images):
    import heads
    work = benchmarks['run'].make_workload(preset, 'cpu', 'fp32', repeats=1)
    networks = [MODELS.build(dict(model)) for model in (work.teacher, work.student)]
    assert tuple(
        sum(parameter.numel() for parameter in network.parameters()) for network in networks) == parameters
    assert work.images.shape == images and work.labels.shape == images[:1] and work.labels.max() < classes
    assert len(heads.stages(work)) == len(
        [name for name, _ in networks[0].backbone.named_children() if name.startswith('layer')])


def test_images_a_second_are_those_of_our_side(benchmarks, monkeypatch):
    """By a clock that a step of ours puts forward by half a second, one of theirs by one."""
    measure, run = benchmarks['measure'], benchmarks['run']
    clock, pairs = [0.0], []
    monkeypatch.setattr(measure, 'time', SimpleNamespace(perf_counter=lambda: clock[0]))

    def taking(seconds: float):
        return measure.Contender(lambda _: clock.__setitem__(0, clock[0] + seconds), lambda: None)

    def ratios(work):
        return measure.paired_ratios(lambda: pairs.append(1) or (taking(0.5), taking(1)), work.repeats, 4,
                                     work.device)

    found = run.Benchmark('what', 1.0, ratios, trains=True).measure(benchmarks['work'])
    assert found == dict(median=0.5, low=0.5, high=0.5, n=2, images_per_second=32 / 0.5,
                         peak_memory=None) and len(pairs) == 1
    assert set(run.Benchmark('what', 1.0, ratios).measure(
        benchmarks['work'])) == {'median', 'low', 'high', 'n'}


def test_peak_memory_is_that_of_a_later_step_without_the_other_side(benchmarks, monkeypatch):
    """The first step chooses convolutions. What torch counts on a GPU is here how many objects live."""
    measure, living = benchmarks['measure'], weakref.WeakSet()

    class Network:

        def __init__(self) -> None:
            living.add(self)
            self.itself = self  # as modules do, it goes only when it is collected

        def step(self, _) -> None:
            steps.append(len(living))

    steps = []
    monkeypatch.setattr(torch.cuda, 'reset_peak_memory_stats', lambda device: steps.clear())
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda device: max(steps))
    gc.disable()
    try:
        peak = measure.peak_memory(
            lambda: tuple(measure.Contender(Network().step, lambda: None) for _ in range(2)),
            torch.device('cuda'))
    finally:
        gc.enable()
    assert peak == 1 and len(steps) == 1


def test_the_table_and_the_json(benchmarks, monkeypatch, tmp_path, capsys):
    run, file = benchmarks['run'], tmp_path / 'results.json'
    monkeypatch.setattr(
        sys, 'argv', ['run.py', 'after_stop_vs_plain', 'snapshot_bytes', '--repeats', '2', '--json',
         str(file)])
    monkeypatch.setattr(run, 'make_workload', lambda *_, **__: benchmarks['work'])
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', False)  # and back again
    run.main()
    found = json.loads(file.read_text())
    step, size = found['after_stop_vs_plain'], found['snapshot_bytes']
    assert set(size) == {'median', 'low', 'high', 'n'
                         } and step['peak_memory'] is None and step['images_per_second'] > 1
    title, of_step, of_size = capsys.readouterr().out.splitlines()[-3:]
    assert title.split()[-3:] == ['images/s', 'peak', 'GB'
                                  ] and of_step.split()[-1] == f'{step["images_per_second"]:.0f}'
    assert of_size.split()[-1] in ('ok', 'over')


def test_four_teachers_stay_within_the_memory_of_one(benchmarks):
    run, work = benchmarks['run'], benchmarks['work']
    assert 1 <= run.cohort4_memory(work)[0] < run.BENCHMARKS['cohort4_memory'].limit


@pytest.mark.parametrize('name, module', [('kd_step_vs_floor', 'steps'), ('ensemble4_vs_floor', 'steps'),
                                          ('kd_step_vs_mmrazor', 'razor')])
def test_the_contenders_of_a_step_do_the_same_work(benchmarks, monkeypatch, name, module):
    """Else an error is raised."""
    benchmark, module = benchmarks['run'].BENCHMARKS[name], sys.modules[module]
    assert len(benchmark.ratios(benchmarks['work'])) == 2
    distilling = module.distilling

    def with_another_weight(*arguments):
        model = distilling(*arguments)
        model.ce_weight = 0.2
        return model

    monkeypatch.setattr(module, 'distilling', with_another_weight)
    with pytest.raises(RuntimeError, match='do not do the same work'):
        benchmark.ratios(benchmarks['work'])


@pytest.mark.parametrize('mistake', ['another teacher', 'kd_weight=0', '1 of 4 teachers'])
def test_contenders_that_learn_from_something_else_are_caught(benchmarks, mistake):
    """With the preset's own networks, which are not trained: as they are initialised, teachers would say next
    to nothing."""
    import steps
    work = benchmarks['run'].make_workload('small', 'cpu', 'fp32', repeats=1)
    work = dataclasses.replace(work, images=work.images[:8], labels=work.labels[:8])
    teachers, student = steps.sure_teachers(work, 4), steps.build(work.student)

    def floor(count: int):
        step = steps.hand_written_step(copy.deepcopy(teachers[:count]), copy.deepcopy(student), work)
        return benchmarks['measure'].Contender(step, work.tensors)

    def ours(files, **changes):
        model = steps.distilling(work, copy.deepcopy(student), files)
        for name, value in changes.items():
            setattr(model, name, value)
        return steps.mmengine_contender(model, work)

    with steps.snapshots(work, teachers) as files:
        right, wrong, count = {'another teacher': (files[:1], ours(files[1:2]), 1),
                               'kd_weight=0': (files[:1], ours(files[:1], kd_weight=0.0), 1),
                               '1 of 4 teachers': (files, ours(files[:1]), 4)}[mistake]
        steps.compare(lambda: (ours(right), floor(count)), work)
        with pytest.raises(RuntimeError, match='do not do the same work: in step 1'):
            steps.compare(lambda: (wrong, floor(count)), work)


def test_teachers_are_as_sure_as_trained_ones(benchmarks):
    """In what mmpretrain's own data preprocessor makes of the images, standard deviation 4 over the classes;
    each its own weights."""
    import workload
    work = benchmarks['run'].make_workload('small', 'cpu', 'fp32', repeats=1)
    first, second = workload.sure_teachers(work, 2)
    images = first.data_preprocessor(work.collated())['inputs']
    logits = [teacher(images[:8]) for teacher in (first, second)]
    assert all(own.std(dim=1).mean().item() == pytest.approx(4, rel=1e-4) for own in logits)
    assert (logits[0] - logits[1]).abs().mean() > 1
    assert workload.build(work.teacher).eval()(images[:8]).std(dim=1).mean() < 0.5


@pytest.mark.parametrize('arguments, message', [
    (['kd_step'], "no benchmark 'kd_step'; there are kd_step_vs_floor, "),
    (['--device', 'cuda'], '--device cuda: torch sees no GPU here'),
    (['--dtype', 'bf16'], '--dtype bf16 needs --device cuda'),
    (['--repeats', '0'], '--repeats 0 should be at least 1')])
def test_arguments_that_cannot_be_are_refused(benchmarks, monkeypatch, capsys, arguments, message):
    """By both commands that time steps."""
    import scale
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    for command in [benchmarks['run']] if 'no benchmark' in message else [benchmarks['run'], scale]:
        with pytest.raises(SystemExit, match='2'):
            command.parse_args(arguments)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize('command, arguments, message', [
    ('scale', ['--batch', '33'], "--batch 33: should be 1 to 32, the images that the preset 'small' has"),
    ('scale', ['--batch', '0'], '--batch 0: should be 1 to 32'),
    ('on_paper', ['--batch', '257'], "--batch 257: should be 1 to 256, the images that the preset "
                                     "'imagenet' has"),
    ('scale', ['--teachers', '2', '0'], '--teachers 0 should be at least 1'),
    ('scale', ['proceses'], "nothing is measured against 'proceses'")])
def test_what_is_not_there_is_refused(benchmarks, capsys, command, arguments, message):
    with pytest.raises(SystemExit, match='2'):
        importlib.import_module(command).parse_args(arguments)
    assert message in capsys.readouterr().err


def test_what_was_measured_is_kept_when_the_next_fails(benchmarks, monkeypatch, tmp_path, capsys):
    """The file is written before the next begins; the one after it is measured all the same."""
    run, file = benchmarks['run'], tmp_path / 'results.json'

    def fails(work):
        assert json.loads(file.read_text())['good']['median'] == 0.5
        raise ImportError('mmrazor is not installed')

    given = dict(good=run.Benchmark('a / b', 1.0, lambda work: [0.5]), bad=run.Benchmark('c / d', 1.0, fails),
                 fast=run.Benchmark('e / f', 1.0, lambda work: [0.25]))
    monkeypatch.setattr(run, 'BENCHMARKS', given)
    monkeypatch.setattr(run, 'make_workload', lambda *_, **__: benchmarks['work'])
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', False)
    monkeypatch.setattr(sys, 'argv', ['run.py', '--json', str(file)])
    assert run.main() == 1
    found = json.loads(file.read_text())
    assert found['bad'] == dict(
        failed='ImportError: mmrazor is not installed') and found['fast']['median'] == 0.25
    said = capsys.readouterr()
    assert 'bad                    failed: ImportError: mmrazor is not installed' in said.out and 'Traceback' in said.err
    monkeypatch.setattr(sys, 'argv', ['run.py', 'good', 'fast'])
    assert run.main() == 0


def test_the_contenders_of_the_scores_find_the_same_number(benchmarks):
    """Else an error is raised."""
    run, work = benchmarks['run'], benchmarks['work']
    for name in ('cmi_vs_forward', 'calibration_vs_forward'):
        run.BENCHMARKS[name].ratios(work)
    with pytest.raises(RuntimeError, match='do not do the same work'):
        benchmarks['looks'].score_vs_forward(
            work, 'calibration', lambda logits, labels: -nn.functional.cross_entropy(logits, labels) - 1)


def test_mutual_learning_is_timed_against_both_students(benchmarks, monkeypatch):
    """Without weight the pair does the same work; with it the students differ, and both sides have trained
    two."""
    run, work = benchmarks['run'], benchmarks['work']
    import mutual
    pairs = []
    monkeypatch.setattr(mutual, 'keep_freed_memory', lambda: None)  # it would last
    monkeypatch.setattr(mutual, 'paired_ratios',
                        lambda make_pair, *settings: pairs.append(make_pair()) or [1.0])
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
    assert_close(benchmarks['looks'].hand_written_cmi(logits, labels),
                 conditional_mutual_information(logits.log_softmax(dim=1), labels))


def test_the_epoch_is_counted_nine_times(benchmarks, monkeypatch):
    """A tenth of the images is probed, on nine tenths the teacher is trained, of which one is timed."""
    looks, work = benchmarks['looks'], benchmarks['work']
    pairs = []

    def paired_ratios(make_pair, repeats, steps, device, tolerance=None):
        pairs.append(make_pair())
        return [1.8]

    monkeypatch.setattr(looks, 'paired_ratios', paired_ratios)
    probed = []
    monkeypatch.setattr(looks, 'estimate_point', lambda network, images, settings, device, log: probed.append(
        (len(images), settings)))
    assert looks.probe_vs_epoch(work) == pytest.approx([0.2])
    probe, ninth = pairs[0]
    probe.step(probe.batch())
    assert probed == [(256, looks.EstimatorSettings())]
    trained = ninth.batch()
    assert sum(len(batch['inputs']) for batch in trained) == 256 and len(ninth.step(trained)) == 256 // 32


def test_what_heads_are_compared_with(benchmarks, monkeypatch):
    """Two heads and their teacher against the teacher alone, the same student; and their training against the
    teacher's."""
    import heads
    pairs = []
    monkeypatch.setattr(heads, 'STAGES', (0, 1))
    monkeypatch.setattr(heads, 'paired_ratios',
                        lambda make_pair, *_: pairs.append([taken(contender) for contender in make_pair()]))

    def taken(contender) -> tuple:
        """The model of a step, and the names of what a step changes."""
        model = next(cell.cell_contents for cell in contender.step.__closure__
                     if isinstance(cell.cell_contents, nn.Module))
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        contender.step(contender.batch())
        return model, {
            name
            for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])
        }

    heads.dih_vs_kd(benchmarks['work'])
    heads.heads_vs_epoch(benchmarks['work'])
    ((ours, learned), (plain, alone)), ((training, trained), (teacher, whole)) = pairs
    assert ours.cohort.member_names == ['head 0', 'head 1', 'teacher'] and len(
        plain.cohort.networks) == 1 and learned == alone
    assert trained == {f'heads.{index}.fc.{part}' for index in (0, 1) for part in ('weight', 'bias')}
    assert trained == {name for name, _ in training.named_parameters()}
    assert {'backbone.conv1.weight', 'head.fc.weight'} <= whole and teacher.training


def test_teachers_are_counted_and_timed_beside_a_plain_step(benchmarks, monkeypatch):
    """By count a step is the student's own and a forward pass of each teacher, and classes change nothing but
    the last layer."""
    import scale

    from ckd_mm.flops import network_flops
    work = benchmarks['work']
    monkeypatch.setattr(scale, 'paired_ratios', lambda make_pair, *_: [1.0])
    monkeypatch.setattr(sys.modules['cached'], 'paired_ratios', lambda make_pair, *_: [1.25])
    one, three = scale.against_teachers(work, (1, 3))
    plain = benchmarks['measure'].operations(scale.mmengine_contender(scale.build(work.student), work))
    teacher = 32 * network_flops(scale.build(work.teacher), work.images)
    assert one['by_count'] == pytest.approx(1 + teacher / plain) and three['by_count'] == pytest.approx(
        1 + 3 * teacher / plain)
    assert [row['teachers'] for row in (one, three)] == [1, 3] and one['median'] == 1
    assert one['cached_median'] == three['cached_median'] == 1.25
    many = scale.with_classes(work, 50)
    assert many.labels.max() > 9 and scale.build(many.student).head.fc.out_features == 50
    # of each 8 inputs and output the head multiplies once forward, twice backward, and two operations make a
    # multiplication
    assert benchmarks['measure'].operations(scale.mmengine_contender(scale.build(many.student),
                                                                     many)) - plain == 3 * 2 * 32 * 8 * 40


def test_two_processes_are_timed_beside_one(benchmarks):
    """A plain step of one process is the unit; all four numbers are of steps that were taken."""
    import scale
    one, two = scale.against_processes(dataclasses.replace(benchmarks['work'], repeats=2))
    assert [one['processes'], two['processes']] == [1, 2] and one['n'] == two['n'] == 2
    assert one['plain_median'] == one['plain_low'] == one['plain_high'] == one['plain_processor_median'] == 1
    assert min(one['low'], two['low'], two['plain_low'], two['processor_low']) > 0


def test_processes_are_not_waited_for_without_end(benchmarks):
    """Not when they hang, and not for the other when one has failed; none is left behind."""
    import scale

    def started(target, argument) -> multiprocessing.Process:
        process = multiprocessing.get_context('fork').Process(target=target, args=(argument, ))
        process.start()
        return process

    with pytest.raises(RuntimeError, match='2 of the 3 processes of the benchmark had not ended after 1 s '
                                           'and were killed: take fewer'):
        scale.wait_for([started(time.sleep, 0), *(started(time.sleep, 60) for _ in range(2))], 1)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match='a process of the benchmark ended with exit status 3'):
        scale.wait_for([started(time.sleep, 60), started(os._exit, 3)], 60)
    assert time.monotonic() - start < 30 and not multiprocessing.active_children()


def test_a_process_that_fails_while_it_is_looked_at(benchmarks):
    """Its exit status is there only when it is asked for once more; the other must not be waited for."""
    import scale

    class Process:
        kill = join = lambda self: None

        def __init__(self, sentinel: int, *statuses) -> None:
            self.sentinel, self._statuses = sentinel, iter(statuses)

        @property
        def exitcode(self):
            return next(self._statuses, None)

    ended, still_open = os.pipe()
    other_end, never_closed = os.pipe()
    os.close(still_open)  # which is what its sentinel says
    start = time.monotonic()
    with pytest.raises(RuntimeError, match='ended with exit status 3'):
        scale.wait_for([Process(ended, None, *[3] * 9), Process(other_end)], 5)
    assert time.monotonic() - start < 4
    for descriptor in (ended, other_end, never_closed):
        os.close(descriptor)


def test_what_grows_how(benchmarks, tmp_path):
    import scale_figure
    from_files = dict(cached_median=1.05, cached_low=1, cached_high=2)
    rows = dict(teachers=[
        dict(teachers=m, median=1.2 + 0.3 * m, low=1, high=2, by_count=1 + 0.5 * m, **from_files)
        for m in (1, 2, 4)
    ], classes=[
                    dict(classes=c, median=v, low=1, high=2, by_count=1.5, **from_files)
                    for c, v in ((10, 1.5), (1000, 1.625))
                ], processes=[
                    dict(processes=p, median=1.5 * f, plain_median=f, processor_median=1.5 * g,
                         processor_low=1, processor_high=3, plain_processor_median=g, plain_processor_low=1,
                         plain_processor_high=2) for p, f, g in ((1, 1.0, 1.0), (2, 2.0, 1.125))
                ])
    teachers, classes, processes = scale_figure.sentences(rows)
    assert 'each costs 0.30 of a plain step, by count of operations 0.50; with cached targets a step is 1.05 plain ones' in teachers
    assert 'from 10 to 1000 a distilled step goes from 1.50 to 1.62' in classes
    assert 'a step of 2 costs each 1.12 times the processor time of a step of one if plain, 1.12 times if distilled' in processes
    assert 'by the clock, on the cores that were free, 2.00 and 2.00 times' in processes
    figure = scale_figure.draw(rows, tmp_path / 'scale.png')
    assert (tmp_path / 'scale.png').stat().st_size > 0
    teachers, classes, processes = ({line.get_label(): line for line in axes.lines} for axes in figure.axes)
    assert list(
        teachers['distilled step, measured'].get_ydata()) == [row['median'] for row in rows['teachers']]
    once, apart = teachers['with cached targets'], classes['with cached targets']
    assert list(once.get_ydata()) == [1.05] * 3 and once.get_marker() == 'None' and apart.get_marker() == 'o'
    legend, = figure.legends
    assert sorted(text.get_text() for text in legend.get_texts()) == [
        'by count of operations', 'distilled step, measured', 'plain step', 'with cached targets']
    assert list(processes['plain step'].get_ydata()) == [
        1, 1.125
    ] and 'processor time' in figure.axes[2].get_ylabel()
    one = dict(teachers=rows['teachers'][:1])
    assert not list(scale_figure.sentences(one)) and len(scale_figure.draw(one).axes) == 1


def test_the_table_on_paper_is_its_arithmetic(benchmarks):
    """10 images a step of 6e9 operations each at 1e12 a second: 60 ms, two thirds of it backward. 40e6 bytes
    in a ring of 4 at
    1e9 bytes a second: 2 * 3/4 * 40 = 60 ms, so 20 are waited for."""
    import on_paper
    counts = on_paper.Counts(teacher_step=12e9, student_step=6e9, teacher_forward=3e9,
                             teacher_gradients=80_000_000, student_gradients=40_000_000, image=100_000,
                             snapshot=80_000_000, teacher_starts=3000, student_starts=1000,
                             taught_starts=2000)
    given = on_paper.Assumptions(gpus=4, teraflops=1, batch=10, teacher_forward=None, decode=2, cores=4,
                                 all_reduce=1, copy=1, start=5)
    rows = on_paper.stages(counts, given)
    taught, alone = rows['student, taught'], rows['teacher alone']
    expected = dict(learns=60, teaches=30, waits=20, copies=1, starts=10, loads=5, all_reduce=60, step=111,
                    images_per_second=40 / 0.111, cores_wanted=10 * 2 / 111,
                    epoch_minutes=1_281_167 / 40 * 0.111 / 60)
    assert {
        name: taught[name]
        for name in expected
    } == pytest.approx(expected) and taught['binds'] == 'learns'
    assert alone['learns'] == 120 and alone['teaches'] == 0 and alone['waits'] == pytest.approx(
        120 - 80) and alone['starts'] == 15
    assert rows['student, cached']['step'] == pytest.approx(81)

    def binds(**changes) -> tuple:
        row = on_paper.stages(counts, dataclasses.replace(given, **changes))['student, taught']
        return row['binds'], row['step']

    assert binds(cores=1, decode=20) == ('loads', 200) and binds(start=100) == ('starts', 200)
    assert binds(teacher_forward=1.5) == ('teaches', pytest.approx(60 + 90 + 20 + 1))
    assert binds(all_reduce=0.1) == ('waits', pytest.approx(60 + 30 + 560 +
                                                            1)) and binds(gpus=1)[1] == pytest.approx(91)
    table = on_paper.markdown(on_paper.table(counts, [given]))
    assert '| 4 | 1 | student, taught | 60.00 | 30.00 | 20.00 | 1.00 | 10.00 | 5.00 | 111.00 | learns | 360 | 0.2 | 59.25 |' in table


def test_operators_that_are_started(benchmarks):
    """What computes or writes counts, a view does not."""
    import measure
    import on_paper
    values = torch.zeros(4, 4)
    assert on_paper.starts(
        measure.Contender(lambda batch: batch.t().t().view(2, 8).add_(1).sum() * 2, lambda: values)) == 3


def test_what_is_counted_on_paper(benchmarks):
    """Of the networks on one image; more images start no more operators but for their labels."""
    import on_paper

    from ckd_mm.flops import network_flops
    work = benchmarks['work']
    counts = on_paper.count(work)
    student = on_paper.build(work.student)
    assert counts.student_gradients == 4 * sum(parameter.numel()
                                               for parameter in student.parameters()) < counts.snapshot
    assert counts.teacher_forward == network_flops(student, work.images) and counts.image == 3 * 8 * 8
    # backward is twice forward, but for the first convolution (3x3, 3 to 4 channels), whose input wants no
    # gradient
    assert counts.student_step == 3 * counts.teacher_forward - 2 * 8 * 8 * 4 * 27
    assert counts.taught_starts > counts.student_starts == counts.teacher_starts > 0


@pytest.fixture
def pictures(benchmarks, tmp_path):
    """Photographs that scikit-learn ships, as JPEG files of 427x640 pixels; the crops of two have less than
    twice 96 pixels."""
    import imagenet_input
    from sklearn.datasets import load_sample_images
    files = []
    for index, array in enumerate(load_sample_images().images * 2):
        files.append(tmp_path / f'{index}.jpg')
        Image.fromarray(np.ascontiguousarray(array[:, ::-1] if index % 2 else array)).save(files[-1],
                                                                                           quality=90)
    drawn = list(imagenet_input.pictures(files, 96, bytes))
    small = [
        dataclasses.replace(picture, crop=(30, 40, 191, 250), flip=not picture.flip) for picture in drawn[:2]
    ]
    return imagenet_input, small + [
        dataclasses.replace(picture, crop=(20, 101, 300, 402)) for picture in drawn[2:]
    ]


def test_every_way_into_the_network_gives_the_image(pictures):
    """mmpretrain's own, part by part, is the yardstick; half-size decoding where the crop is shrunk is close
    to it, and it alone
    touches pixels."""
    module, images = pictures
    for picture in images:
        assert picture.size == (427, 640)
        seconds, results = module.seconds_of_parts(picture, 96)
        assert list(seconds) == ['read', 'decode', 'RandomResizedCrop', 'RandomFlip', 'PackInputs'] and min(
            seconds.values()) > 0
        assert torch.equal(module.mmcv_way()(picture, 96), results['inputs'])
    for row, picture in enumerate(images):
        full, half, always = (way(
            picture, 96) for way in (module.mmcv_way(), module.reduced_way(True), module.reduced_way(False)))
        assert torch.equal(half, full if row < 2 else always) and not torch.equal(full, always)
        assert (half.float() - full.float()).abs().mean() < 12 and full.float().std() > 40
    found = module.compare(images * 8, 96)
    assert found['mmpretrain (cv2)']['largest_difference'] == 0 and found['mmpretrain (cv2)']['median'] == 1
    assert found['torchvision v2']['mean_difference'] < 1 and found['cv2, half size if shrunk'][
        'largest_difference'] > 0


def test_images_written_anew_have_the_size_that_was_asked_for(pictures):
    module, images = pictures
    with Image.open(io.BytesIO(module.written_anew(64, 90)(images[0].content))) as image:
        assert image.size == (96, 64)


def test_cached_targets_are_read_from_files(benchmarks, monkeypatch):
    """Rows for each image in four views; our side has no teacher and learns from what is in the files, the
    other side is plain."""
    import cached

    from ckd_mm.students import CheckpointDistill
    from ckd_mm.targets import TargetFile
    seen, of = [], TargetFile.of

    def look_up(file, samples, inputs):
        seen.append((file.layout.rows, [(sample.sample_idx, sample.view) for sample in samples]))
        return of(file, samples, inputs)

    def take_steps(make_pair, *_):
        ours, plain = make_pair()
        algorithm = next(cell.cell_contents for cell in ours.step.__closure__
                         if isinstance(cell.cell_contents, CheckpointDistill))
        assert not algorithm.has_teachers
        return [(ours.step(ours.batch()) - plain.step(plain.batch())).item()]

    monkeypatch.setattr(cached, 'paired_ratios', take_steps)
    monkeypatch.setattr(TargetFile, 'of', look_up)
    difference, = cached.cached_vs_plain(benchmarks['work'], rows=1280)
    (rows, places), = seen
    assert rows == 1280 and len(places) == 32 and max(
        image for image, _ in places) < 320 and {view
                                                 for _, view in places} <= set(range(4))
    assert abs(difference) > 1e-3


def test_both_loaders_give_the_same_images(benchmarks, monkeypatch):
    """Else an error is raised: here one of them shuffles otherwise."""
    import loader
    load, build = loader.NoiseCIFAR.load_data_list, loader.Runner.build_dataloader
    monkeypatch.setattr(loader.NoiseCIFAR, 'load_data_list', lambda self: load(self)[:3000])
    assert min(loader.small_images_loader(benchmarks['work'])) > 0
    seeds = {'NoiseCIFAR': 1, 'ckd_mm.InMemory': 0}
    monkeypatch.setattr(loader.Runner, 'build_dataloader',
                        lambda config, seed: build(config, seed=seeds[config['dataset']['type']]))
    with pytest.raises(RuntimeError, match='do not do the same work'):
        loader.small_images_loader(benchmarks['work'])
