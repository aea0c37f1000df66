"""The benchmarks measure what they say; their limits are checked by running them."""

import copy
import dataclasses
import gc
import json
import sys
import weakref
from types import SimpleNamespace

import pytest
import torch
from mmpretrain.registry import MODELS
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
        sys, 'argv', ['run.py', 'after_stop_vs_plain', 'cohort4_memory', '--repeats', '2', '--json',
         str(file)])
    monkeypatch.setattr(run, 'make_workload', lambda *_, **__: benchmarks['work'])
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', False)  # and back again
    run.main()
    found = json.loads(file.read_text())
    step, size = found['after_stop_vs_plain'], found['cohort4_memory']
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
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit, match='2'):
        benchmarks['run'].parse_args(arguments)
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
    assert 'bad                    failed: ImportError: mmrazor is not installed' in said.out
    assert 'Traceback' in said.err
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
