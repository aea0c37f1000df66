"""Selectors and ensembles inside whole runs."""

from pathlib import Path

import pytest
import torch

from ckd_mm.errors import ConfigError
from ckd_mm.files import read_json
from ckd_mm.infoplane.probe import Probe
from ckd_mm.pipeline.build import open_run, stage_of
from ckd_mm.pipeline.runner import CheckpointDistillRunner
from ckd_mm.selection import build_selector
from ckd_mm.selection.conditional_mutual_information import conditional_mutual_information
from ckd_mm.stages.student_task import StudentTask
from ckd_mm.trajectory import Snapshot, Trajectory

from ..conftest import resnet
from ..helpers import opened


def selection(config, **log):
    """A run and its stage that selects."""
    run, stages = open_run(config, **log)
    return run, stage_of(stages, 'select')


@pytest.fixture(scope='module')
def teacher_run(tmp_path_factory):
    """Set by the first test that trains a teacher."""
    return tmp_path_factory.mktemp('family')


@pytest.fixture
def given(distil_run, teacher_run, tmp_path):
    """A config whose teacher was trained once for all tests here, with 3 snapshots."""

    def make(selector, **settings):
        if not (teacher_run / 'trajectory.json').exists():
            base = distil_run(work_dir=str(teacher_run))
            base.train_dataloader.dataset.indices = 200
            base.probe = dict(held_out=64)
            CheckpointDistillRunner(base).train(until='teacher')
        config = distil_run(work_dir=str(tmp_path / 'given'))
        config.train_dataloader.dataset.indices = 200
        config.teacher, config.probe, config.selector = dict(trajectory=str(teacher_run)), dict(
            held_out=64, decoder_epochs=1), selector
        config.merge_from_dict(settings)
        return config

    return make


def test_cmi_of_a_run_is_that_of_its_networks(given, teacher_run):
    config = given('cmi')
    config.probe = None
    summary = CheckpointDistillRunner(config).train()
    selection = read_json(config.work_dir + '/selection.json')
    probe = Probe(config)  # its defaults: a tenth of the training images
    expected = {}
    for snapshot in Trajectory.open(teacher_run):
        network = snapshot.build()
        inputs = network.data_preprocessor(dict(inputs=probe.images.pixels), False)['inputs']
        with torch.no_grad():
            expected[snapshot.epoch] = conditional_mutual_information(
                network(inputs).double().log_softmax(1), probe.images.labels).item()
    part = selection['by_trajectory'][0]
    assert {row['epoch']: row['score'] for row in part['scores']} == pytest.approx(expected, rel=1e-4)
    assert selection['epochs'] == [max(expected, key=expected.get)]
    assert part['cost']['teacher_forwards'] == len(
        probe.images) * 3  # one forward pass over the held-out images a snapshot
    assert 'probe' not in summary['seconds']  # the plane was not asked for
    page, best = Path(config.work_dir, 'report.html').read_text(), max(expected, key=expected.get)
    row = f'<td class="n">{best}</td><td class="n">{part["scores"][best - 1]["score"]:.6g}</td>'
    assert f'<tr class="chosen">{row}' in page


def test_short_probe_halves_and_goes_on_where_it_stopped(given, monkeypatch):
    config = given(dict(type='short_probe', epochs=1), **{'train_cfg.max_epochs': 4})
    trained = []
    original = StudentTask._train

    def run(self, stage):
        runner = original(self, stage)
        trained.append(
            (stage.work_dir.split('/')[-1], stage.train_cfg.max_epochs, len(runner.train_dataloader.dataset)))
        return runner

    monkeypatch.setattr(StudentTask, '_train', run)
    CheckpointDistillRunner(config).train(until='select')
    part = read_json(config.work_dir + '/selection.json')['by_trajectory'][0]
    # three for one epoch, the better two for two (half of three, rounded up), then one is left
    assert [(name, epochs) for name, epochs, _ in trained[:3]] == [('epoch_1', 1), ('epoch_2', 1),
                                                                   ('epoch_3', 1)]
    assert [epochs for _, epochs, _ in trained[3:]] == [2, 2] and all(images == 200 - 64
                                                                      for *_, images in trained)
    first = {row['epoch']: row for row in part['scores']}
    second_round = [epoch for epoch, row in first.items() if row['score'] >= 100]
    assert {f'epoch_{epoch}' for epoch in second_round} == {name for name, *_ in trained[3:]}
    assert {first[epoch]['student_epochs'] for epoch in second_round} == {2}
    best = max(second_round, key=lambda epoch: first[epoch]['accuracy'])
    assert part['epochs'] == [best]
    # a student in its second round went on from its checkpoint: that of two epochs is there, with both
    # epochs' iterations
    state = torch.load(f'{config.work_dir}/select/epoch_{best}/epoch_2.pth', weights_only=False)
    assert state['meta']['iter'] == 2 * -(-(200 - 64) // 16)


def test_ensemble_of_two_trainings(distil_run):
    config = distil_run()
    config.probe, config.selector = None, dict(type='ensemble', kind='mixed', k=2)
    config.teacher.snapshots = dict(epochs=[3])  # the selector's own wish, the half-way epoch 2, is added
    config.teacher.train_cfg.max_epochs = 4
    summary = CheckpointDistillRunner(config).train()
    first, second = Trajectory.open(config.work_dir), Trajectory.open(config.work_dir + '/teacher_2')
    assert (first.epochs, second.epochs) == ([2, 3], [3, 4])
    assert second.info['seed'] == first.info['seed'] + 1
    assert not all(
        torch.equal(left, right)
        for left, right in zip(first.at(3).state_dict().values(), second.at(3).state_dict().values()))
    selection = read_json(config.work_dir + '/selection.json')
    assert [(teacher['trajectory'], teacher['epoch']) for teacher in selection['teachers']] == \
        [(str(first.folder), 2), (str(second.folder), 4)]
    assert summary['cohort']['size'] == 2 and summary['cohort']['accuracy_top1'] is not None
    cost = summary['cost']
    assert (cost['teacher_epochs'], cost['student_epochs'], cost['total_epochs']) == (2 + 4, 2, 8)
    assert cost['teacher_hours'] == pytest.approx((first.at(2).seconds + second.at(4).seconds) / 3600)
    assert cost['total_hours'] == pytest.approx(cost['teacher_hours'] + summary['seconds']['student'] / 3600)
    assert 0 < first.at(2).seconds < first.at(3).seconds <= summary['seconds']['teacher'] + 0.01
    page = Path(config.work_dir, 'report.html').read_text()
    assert 'ensemble of epoch 2 of training 1, epoch 4 of training 2' in page
    assert 'training cost: 6 epochs of teachers' in page and 'teacher_2' in page
    # the same from one option, over the trainings that exist
    again = distil_run(work_dir=config.work_dir + '_full')
    again.teacher = dict(trajectory=[config.work_dir, config.work_dir + '/teacher_2'])
    again.probe, again.selector = None, dict(type='ensemble', kind='full', k=2)
    CheckpointDistillRunner(again).train()
    assert read_json(again.work_dir + '/selection.json')['epochs'] == [3, 4]


def test_an_ensemble_asks_for_its_trajectories_before_training(given, teacher_run):
    config = given(dict(type='ensemble', kind='full', k=2))
    config.probe = None
    with pytest.raises(ConfigError, match='needs 2 trainings of the teacher, but teacher.trajectory names 1'):
        CheckpointDistillRunner(config).train()


def test_seeds_of_the_trainings(distil_run):
    config = distil_run()
    config.selector = dict(type='ensemble', kind='full', k=3)
    run, stages = opened(config)
    teachers = [stages[name] for name in ('teacher', 'teacher_2', 'teacher_3')]
    assert [stage.config(run).randomness.seed for stage in teachers] == [3, 4, 5]
    assert stages['student'].config(run).randomness.seed == 3
    assert [stage.folder(run).name for stage in teachers] == ['run', 'teacher_2', 'teacher_3']


@pytest.mark.parametrize('selector', ['cmi', 'calibration'])
def test_one_forward_pass_is_enough(given, teacher_run, tmp_path, monkeypatch, selector):
    config, seen, build = given(selector), [], Snapshot.build

    def counted(self, *arguments):
        network = build(self, *arguments)
        network.backbone.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
        return network

    run, select = selection(config)
    monkeypatch.setattr(Snapshot, 'build', counted)
    select.selector.select(select.trajectories(run)[0], select.context(run, tmp_path / 'select'))
    assert sum(seen) == 3 * 64  # snapshots and held-out images


def test_one_pass_selectors_need_no_decoder(given, monkeypatch):
    config = given('calibration')
    config.probe = None
    assert build_selector('calibration').needs_images and 'probe' not in opened(config)[1]
    monkeypatch.setattr('ckd_mm.infoplane.estimators.information_x',
                        lambda *args: pytest.fail('a decoder was trained'))
    CheckpointDistillRunner(config).train(until='select')
    rows = read_json(config.work_dir + '/select/scores_calibration.json')['rows']
    assert [row['epoch'] for row in rows] == [1, 2, 3] and all(row['score'] < 0 for row in rows)


def test_a_selection_for_another_student_is_refused(given):
    config = given('short_probe')
    CheckpointDistillRunner(config).train(until='select')
    config.resume = True
    CheckpointDistillRunner(config).train(until='select')  # unchanged: nothing to do
    config.model = resnet(channels=8)
    with pytest.raises(ConfigError, match='select was finished with other settings: '
                                          'student.model.backbone.base_channels was 4, now 8'):
        CheckpointDistillRunner(config).train(until='select')


class Killed(BaseException):
    """Stands for a kill; nothing catches it."""


def killed_after(runs, config, monkeypatch):
    """A selection by short trials that ends after so many of them, and is to be resumed."""
    original, left = StudentTask._train, iter(range(runs))

    def run(task, stage):
        if next(left, None) is None:
            raise Killed
        return original(task, stage)

    with monkeypatch.context() as patch:
        patch.setattr(StudentTask, '_train', run)
        with pytest.raises(Killed):
            CheckpointDistillRunner(config).train(until='select')
    config.resume = True
    return config


def scores(config) -> list:
    rows = read_json(config.work_dir + '/selection.json')['by_trajectory'][0]['scores']
    return [{key: value for key, value in row.items() if key != 'seconds'} for row in rows]


@pytest.fixture
def short_probe(given, tmp_path):
    """Makes a config whose student is better after two epochs than after one."""

    def make(name, **settings):
        config = given(dict(type='short_probe', epochs=1), work_dir=str(tmp_path / name), model=resnet(2, 8),
                       **{'train_cfg.max_epochs': 4, 'train_dataloader.dataset.indices': 900})
        config.probe = dict(held_out=300, num_images=50, decoder_epochs=1)
        config.merge_from_dict(settings)
        return config

    return make


@pytest.mark.parametrize('checkpoint', [dict(), dict(by_epoch=False, interval=7)])
def test_short_probe_killed_between_rounds(short_probe, monkeypatch, checkpoint):
    """The student of epoch 1 has had two epochs when the run is killed: its first round is still that of one
    epoch."""
    whole, broken = short_probe('whole'), short_probe('broken', **{'default_hooks.checkpoint': checkpoint})
    CheckpointDistillRunner(whole).train(until='select')
    CheckpointDistillRunner(killed_after(4, broken, monkeypatch)).train(until='select')
    first = {name: read_json(f'{config.work_dir}/select/scores_short_probe_round_1.json')['rows']
             for name, config in dict(whole=whole, broken=broken).items()}
    assert [row['accuracy'] for row in first['broken']] == [row['accuracy'] for row in first['whole']]
    assert scores(broken) == scores(whole)
    assert max(row['accuracy'] for row in scores(whole)) > max(row['accuracy'] for row in first['whole'])


def test_short_probe_killed_and_changed(short_probe, monkeypatch):
    config = killed_after(1, short_probe('run'), monkeypatch)
    config.optim_wrapper.optimizer.lr = 0.001
    with pytest.raises(ConfigError, match=r'student.optim_wrapper.optimizer.lr was 0.05, now 0.001. .*move '
                                          r'.*/select away'):
        CheckpointDistillRunner(config).train(until='select')


def test_short_probe_of_more_snapshots(short_probe, teacher_run, tmp_path):
    """Those of the first look are judged anew among all, from where their students are."""
    run, select = selection(short_probe('more'))
    everything = select.trajectories(run)[0]
    found = [
        select.selector.select(Trajectory(everything.folder, everything.snapshots[:count], everything.info),
                               select.context(run, tmp_path / name))
        for name, count in (('same', 2), ('same', 3), ('once', 3))
    ]
    again, once = ([{
        key: value
        for key, value in row.items() if key != 'seconds'
    } for row in selection.scores] for selection in found[1:])
    assert again == once and len(found[0].scores) == 2


def test_short_trials_are_like_the_students_training(short_probe, teacher_run, tmp_path, monkeypatch):
    """Its initial weights and averaged weights count, weights of several teachers do not; all held-out images
    judge."""
    from mmpretrain.registry import MODELS
    config = short_probe('own', custom_hooks=[dict(type='EMAHook', momentum=1e-4)])
    torch.manual_seed(7)
    start = MODELS.build(dict(resnet(2, 8), data_preprocessor=config.data_preprocessor))
    torch.save(dict(state_dict=start.state_dict(), meta={}), tmp_path / 'start.pth')
    config.load_from, config.optim_wrapper.optimizer.lr = str(tmp_path / 'start.pth'), 0.001
    config.teacher, config.distill.teacher_weights = dict(trajectory=[str(teacher_run)] * 2), [0.7, 0.3]
    run, select = selection(config)
    task = select.context(run, tmp_path / 'task').student
    found, original = [], StudentTask._train

    def train(self, stage):
        assert stage.load_from == str(tmp_path / 'start.pth') and not stage.resume
        found.append(original(self, stage))
        return found[-1]

    monkeypatch.setattr(StudentTask, '_train', train)
    monkeypatch.setattr('ckd_mm.stages.student_task.evaluate',
                        lambda model, *args: found.append(model) or {'accuracy/top1': 1.0})
    trajectory = select.trajectories(run)[0]
    assert task.distil(trajectory, trajectory.last, 1) == (1.0, 900 - 300, 300)
    runner, judged = found
    first = start.state_dict()['head.fc.weight']
    moved, averaged = ((model.state_dict()['head.fc.weight'] - first).abs().max().item()
                       for model in (runner.model, judged))
    assert 0 < averaged < 0.1 * moved and moved < 0.1  # from these weights, little; the average still less


def test_a_teacher_that_knows_the_images_is_mentioned(given, teacher_run, tmp_path):
    for name, held_out, said in (('known', 32, True), ('unknown', 64, False)):
        config = given('calibration', work_dir=str(tmp_path / name))
        config.probe = dict(held_out=held_out, decoder_epochs=1)
        lines = []
        run, select = selection(config, log=lines.append)
        select.selector.select(select.trajectories(run)[0], select.context(run, tmp_path / name))
        assert any('trained without the held-out images' in line for line in lines) == said


@pytest.mark.parametrize('selector', ['cmi', 'short_probe'])
def test_the_tool_with_checkpoints_that_say_nothing(given, teacher_run, tool, tmp_path, selector):
    """The config says which network they are of, and how its inputs were normalised."""
    config = given(selector)
    taught, folder = Trajectory.open(teacher_run), tmp_path / 'checkpoints'
    folder.mkdir()
    for snapshot in taught:
        torch.save(dict(state_dict=snapshot.state_dict(), meta={}), folder / f'epoch_{snapshot.epoch}.pth')
    config.teacher.model = resnet(2)
    config.custom_imports = dict(imports=['ckd_mm'], allow_failed_imports=False)
    config.dump(tmp_path / 'config.py')
    status, _, error = tool('select_teacher.py', folder, selector, '--config', tmp_path / 'config.py',
                            '--cfg-options', 'train_dataloader.batch_size=32')
    assert status == 0, error
    run, select = selection(given(selector, **{'train_dataloader.batch_size': 32}))
    expected = select.selector.select(taught, select.context(run, tmp_path / 'expected')).scores
    assert [row['score']
            for row in read_json(folder / 'selection.json')['scores']] == [row['score'] for row in expected]


@pytest.mark.parametrize('scheduler', [
    dict(type='PolyLR', eta_min=0, power=1, by_epoch=False), dict(type='PolyLR', eta_min=0, power=1),
    [dict(type='PolyLR', eta_min=0, power=1, convert_to_iter_based=True)]
])
def test_a_short_trial_is_the_first_part_of_the_schedule(given, tmp_path, monkeypatch, scheduler):
    """One of eight epochs of a learning rate that falls straight from 0.05 to 0; the second trial goes on to
    the second."""
    rates, original = [], StudentTask._train

    def train(self, stage):
        runner = original(self, stage)
        rates.append(runner.optim_wrapper.get_lr()['lr'][0])
        return runner

    monkeypatch.setattr(StudentTask, '_train', train)
    run, select = selection(given('short_probe', **{'train_cfg.max_epochs': 8, 'param_scheduler': scheduler}))
    task, trajectory = select.context(run, tmp_path / 'trials').student, select.trajectories(run)[0]
    for epochs in (1, 2):
        task.distil(trajectory, trajectory.last, epochs)
    # mmengine's falls in one step less than there are, by epochs to 6/7 and 5/7
    assert rates == pytest.approx([0.05 * 7 / 8, 0.05 * 6 / 8], rel=0.05)
