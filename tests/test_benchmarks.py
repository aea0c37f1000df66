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

from ckd_mm.students import CheckpointDistill
from ckd_mm.targets import TargetFile

from .conftest import ROOT, resnet
from .helpers import with_statistics

SAME_WORK = 'do not do the same work'


@pytest.fixture(scope='module')
def modules():
    """The benchmarks' modules, imported once: one registers a data set."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / 'benchmarks'))
        import run
        yield SimpleNamespace(run=run, **{name: sys.modules[name] for name in (
            'cached', 'loader', 'measure', 'probing', 'razor', 'steps', 'workload')})
    for name in set(sys.modules) - before:
        if str(ROOT / 'benchmarks') in str(getattr(sys.modules[name], '__file__', '')):
            del sys.modules[name]


@pytest.fixture
def work(modules):
    """A workload that takes no time."""
    work = modules.run.make_workload('small', 'cpu', 'fp32', repeats=2)
    model = with_statistics(resnet(2))
    images = torch.randint(256, (32, 3, 8, 8), dtype=torch.uint8)
    return dataclasses.replace(work, images=images, teacher=model, student=model)


@pytest.fixture
def main(modules, work, monkeypatch):
    """The command, on that workload."""

    def call(*arguments) -> int:
        monkeypatch.setattr(sys, 'argv', ['run.py', *map(str, arguments)])
        monkeypatch.setattr(modules.run, 'make_workload', lambda *_, **__: work)
        monkeypatch.setattr(torch.backends.cudnn, 'benchmark', False)  # and back again
        return modules.run.main()

    return call


@pytest.mark.parametrize('preset, parameters, classes, images', [
    ('wrn', [2_255_156, 569_780], 100, (128, 3, 32, 32)),  # 2.26 and 0.57 million in the literature
    ('imagenet_r50', [25_557_032, 11_689_512], 1000, (256, 3, 224, 224))])  # torchvision's counts
def test_networks_of_the_presets_for_gpus(modules, preset, parameters, classes, images):
    work = modules.run.make_workload(preset, 'cpu', 'fp32', repeats=1)
    networks = [MODELS.build(dict(model)) for model in (work.teacher, work.student)]
    assert [sum(weight.numel() for weight in network.parameters()) for network in networks] == parameters
    assert work.images.shape == images and work.labels.shape == images[:1] and work.labels.max() < classes


def test_images_a_second_are_those_of_our_side(modules, work, monkeypatch):
    """By a clock that a step of ours puts forward by half a second, one of theirs by one."""
    clock, pairs = [0.0], []
    monkeypatch.setattr(modules.measure, 'time', SimpleNamespace(perf_counter=lambda: clock[0]))

    def taking(seconds: float):
        return modules.measure.Contender(lambda _: clock.__setitem__(0, clock[0] + seconds), lambda: None)

    def ratios(work):
        make_pair = lambda: pairs.append(1) or (taking(0.5), taking(1))  # noqa: E731
        return modules.measure.paired_ratios(make_pair, work.repeats, 4, work.device)

    found = modules.run.Benchmark('what', 1.0, ratios, trains=True).measure(work)
    assert found == dict(median=0.5, low=0.5, high=0.5, n=2, images_per_second=32 / 0.5, peak_memory=None)
    assert len(pairs) == 1
    assert set(modules.run.Benchmark('what', 1.0, ratios).measure(work)) == {'median', 'low', 'high', 'n'}


def test_peak_memory_is_that_of_a_later_step_without_the_other_side(modules, monkeypatch):
    """The first step chooses convolutions. What torch counts on a GPU is here how many objects live."""
    living, steps = weakref.WeakSet(), []

    class Network:

        def __init__(self) -> None:
            living.add(self)
            self.itself = self  # as modules do, it goes only when it is collected

        def step(self, _) -> None:
            steps.append(len(living))

    monkeypatch.setattr(torch.cuda, 'reset_peak_memory_stats', lambda device: steps.clear())
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda device: max(steps))
    gc.disable()
    try:
        peak = modules.measure.peak_memory(
            lambda: tuple(modules.measure.Contender(Network().step, lambda: None) for _ in range(2)),
            torch.device('cuda'))
    finally:
        gc.enable()
    assert peak == 1 and len(steps) == 1


def test_the_table_and_the_json(modules, main, tmp_path, capsys):
    main('kd_step_vs_floor', 'cohort4_memory', '--json', tmp_path / 'results.json')
    found = json.loads((tmp_path / 'results.json').read_text())
    step, size = found['kd_step_vs_floor'], found['cohort4_memory']
    assert set(size) == {'median', 'low', 'high', 'n'}
    assert 1 <= size['median'] < modules.run.BENCHMARKS['cohort4_memory'].limit
    assert step['peak_memory'] is None and step['images_per_second'] > 1
    title, of_step, of_size = capsys.readouterr().out.splitlines()[-3:]
    assert title.split()[-3:] == ['images/s', 'peak', 'GB']
    assert of_step.split()[-1] == f'{step["images_per_second"]:.0f}' and of_size.split()[-1] == 'ok'


@pytest.mark.parametrize('name, module', [('kd_step_vs_floor', 'steps'), ('ensemble4_vs_floor', 'steps'),
                                          ('kd_step_vs_mmrazor', 'razor')])
def test_contenders_of_a_step_that_do_different_work_are_refused(modules, work, monkeypatch, name, module):
    benchmark, module = modules.run.BENCHMARKS[name], getattr(modules, module)
    assert len(benchmark.ratios(work)) == 2
    distilling = module.distilling

    def with_another_weight(*arguments):
        model = distilling(*arguments)
        model.ce_weight = 0.2
        return model

    monkeypatch.setattr(module, 'distilling', with_another_weight)
    with pytest.raises(RuntimeError, match=SAME_WORK):
        benchmark.ratios(work)


def test_contenders_that_learn_from_something_else_are_refused(modules):
    """With the preset's own networks, whose teachers are made confident: as initialised, they would differ by
    next to nothing."""
    steps, work = modules.steps, modules.run.make_workload('small', 'cpu', 'fp32', repeats=1)
    work = dataclasses.replace(work, images=work.images[:4], labels=work.labels[:4])
    teachers, student = modules.workload.confident_teachers(work, 4), modules.workload.build(work.student)

    def compare(files, count: int, **changes) -> None:
        floor = steps.hand_written_step(copy.deepcopy(teachers[:count]), copy.deepcopy(student), work)
        model = steps.distilling(copy.deepcopy(student), files)
        for name, value in changes.items():
            setattr(model, name, value)
        pair = steps.mmengine_contender(model, work), modules.measure.Contender(floor, work.tensors)
        modules.measure.check_same_work(pair, 1e-3)

    with modules.workload.snapshots(work, teachers) as files:
        compare(files, 4)
        another, one = files[1:2], files[:1]
        for given, count, changes in ((another, 1, {}), (one, 1, dict(kd_weight=0.0)), (one, 4, {})):
            with pytest.raises(RuntimeError, match=f'{SAME_WORK}: in step 1'):
                compare(given, count, **changes)


def test_teachers_are_as_confident_as_trained_ones(modules):
    """On the images as mmpretrain's own data preprocessor normalises them: standard deviation 4 over the
    classes; each with its own weights."""
    work = modules.run.make_workload('small', 'cpu', 'fp32', repeats=1)
    first, second = modules.workload.confident_teachers(work, 2)
    images = first.data_preprocessor(work.collated())['inputs'][:8]
    logits = [teacher(images) for teacher in (first, second)]
    assert all(own.std(dim=1).mean().item() == pytest.approx(4, rel=1e-4) for own in logits)
    assert (logits[0] - logits[1]).abs().mean() > 1
    assert modules.workload.build(work.teacher).eval()(images).std(dim=1).mean() < 0.5


@pytest.mark.parametrize('arguments, message', [
    (['kd_step'], "no benchmark 'kd_step'; there are kd_step_vs_floor, "),
    (['--device', 'cuda'], '--device cuda: torch sees no GPU here'),
    (['--dtype', 'bf16'], '--dtype bf16 needs --device cuda'),
    (['--repeats', '0'], '--repeats 0 should be at least 1')])
def test_arguments_that_cannot_be_are_refused(modules, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit, match='2'):
        modules.run.parse_args(arguments)
    assert message in capsys.readouterr().err


def test_what_was_measured_is_on_disk_when_the_next_fails(modules, main, monkeypatch, tmp_path, capsys):
    """The file is written before the next begins; the one after it is measured all the same."""
    file = tmp_path / 'results.json'

    def fails(work):
        assert json.loads(file.read_text())['good']['median'] == 0.5
        raise ImportError('mmrazor is not installed')

    monkeypatch.setattr(modules.run, 'BENCHMARKS', {
        name: modules.run.Benchmark('a / b', 1.0, ratios) for name, ratios in dict(
            good=lambda work: [0.5], bad=fails, fast=lambda work: [0.25]).items()})
    assert main('--json', file) == 1
    found, printed = json.loads(file.read_text()), capsys.readouterr()
    assert found['bad'] == dict(failed='ImportError: mmrazor is not installed')
    assert found['fast']['median'] == 0.25
    assert 'bad                    failed: ImportError: mmrazor is not installed' in printed.out
    assert 'Traceback' in printed.err
    assert main('good', 'fast') == 0


def test_the_epoch_is_counted_nine_times(modules, work, monkeypatch):
    """A tenth of the images is probed, on nine tenths the teacher is trained, of which one is timed."""
    probing, pairs, probed = modules.probing, [], []
    monkeypatch.setattr(probing, 'paired_ratios', lambda make_pair, *_: pairs.append(make_pair()) or [1.8])
    monkeypatch.setattr(probing, 'estimate_point', lambda network, images, settings, device, log:
                        probed.append((len(images), settings)))
    assert probing.probe_vs_epoch(work) == pytest.approx([0.2])
    probe, ninth = pairs[0]
    probe.step(probe.batch())
    assert probed == [(256, probing.ProbeSettings())]
    trained = ninth.batch()
    assert sum(len(batch['inputs']) for batch in trained) == 256 and len(ninth.step(trained)) == 256 // 32


def test_cached_targets_are_read_from_files(modules, work, monkeypatch):
    """Rows for each image in four views; our side has no teacher and learns from what is in the files, the
    other side is mmpretrain's classifier."""
    seen, of = [], TargetFile.of

    def look_up(file, samples, inputs):
        seen.append((file.layout.rows, [(sample.sample_idx, sample.view) for sample in samples]))
        return of(file, samples, inputs)

    def take_steps(make_pair, *_):
        ours, theirs = make_pair()
        algorithm = next(cell.cell_contents for cell in ours.step.__closure__
                         if isinstance(cell.cell_contents, CheckpointDistill))
        assert not algorithm.has_teachers
        return [(ours.step(ours.batch()) - theirs.step(theirs.batch())).item()]

    monkeypatch.setattr(modules.cached, 'paired_ratios', take_steps)
    monkeypatch.setattr(TargetFile, 'of', look_up)
    difference, = modules.cached.cached_vs_plain(work, rows=1280)
    (rows, places), = seen
    assert rows == 1280 and len(places) == 32
    assert max(image for image, _ in places) < 320 and {view for _, view in places} <= set(range(4))
    assert abs(difference) > 1e-3


def test_loaders_of_different_images_are_refused(modules, work, monkeypatch):
    """Here one of them shuffles otherwise."""
    loader = modules.loader
    load, build = loader.NoiseCIFAR.load_data_list, loader.Runner.build_dataloader
    monkeypatch.setattr(loader.NoiseCIFAR, 'load_data_list', lambda self: load(self)[:3000])
    assert min(loader.small_images_loader(work)) > 0
    seeds = {'NoiseCIFAR': 1, 'ckd_mm.InMemory': 0}
    monkeypatch.setattr(loader.Runner, 'build_dataloader',
                        lambda config, seed: build(config, seed=seeds[config['dataset']['type']]))
    with pytest.raises(RuntimeError, match=SAME_WORK):
        loader.small_images_loader(work)
