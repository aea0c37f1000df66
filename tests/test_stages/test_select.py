"""Selectors and ensembles inside whole runs."""

from pathlib import Path

import pytest
import torch
from mmpretrain.registry import MODELS

from ckd_mm.errors import ConfigError
from ckd_mm.files import read_json
from ckd_mm.infoplane.probe import Probe
from ckd_mm.pipeline.build import open_run, stage_of
from ckd_mm.pipeline.runner import CheckpointDistillRunner
from ckd_mm.selection.conditional_mutual_information import conditional_mutual_information
from ckd_mm.stages.student_task import StudentTask
from ckd_mm.trajectory import Snapshot, Trajectory

from ..conftest import resnet


def selection(config, **log):
    """A run and its stage that selects."""
    run, stages = open_run(config, **log)
    return run, stage_of(stages, 'select')


def select(config) -> dict:
    """Run it until the snapshots are selected; what was written of the (first) trajectory."""
    CheckpointDistillRunner(config).train(until='select')
    return read_json(f'{config.work_dir}/selection.json')['by_trajectory'][0]


def without_seconds(rows) -> list:
    return [{key: value for key, value in row.items() if key != 'seconds'} for row in rows]


@pytest.fixture(scope='module')
def teacher_run(tmp_path_factory):
    """Its trajectory is written by the first test that needs one."""
    return tmp_path_factory.mktemp('family')


@pytest.fixture
def given(distil_run, teacher_run, tmp_path):
    """A config whose teacher was trained once for all tests here, with 3 snapshots."""

    def make(selector, **settings):
        if not (teacher_run / 'trajectory.json').exists():
            base = distil_run(work_dir=str(teacher_run))
            base.train_dataloader.dataset.indices, base.probe = 200, dict(held_out=64)
            CheckpointDistillRunner(base).train(until='teacher')
        config = distil_run(work_dir=str(tmp_path / 'given'))
        config.train_dataloader.dataset.indices = 200
        config.teacher, config.selector = dict(trajectory=str(teacher_run)), selector
        config.probe = dict(held_out=64, decoder_epochs=1)
        config.merge_from_dict(settings)
        return config

    return make


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


@pytest.fixture
def trials(monkeypatch):
    """The finished runners of short trainings, as they come."""
    train, runners = StudentTask._train, []

    def kept(task, config):
        runners.append(train(task, config))
        return runners[-1]

    monkeypatch.setattr(StudentTask, '_train', kept)
    return runners


# ------------------------------------------------------------ scores of one forward pass
def test_cmi_of_a_run_is_that_of_its_networks(given, teacher_run):
    config = given('cmi')
    config.probe = None
    summary = CheckpointDistillRunner(config).train()
    selected = read_json(config.work_dir + '/selection.json')
    images, expected = Probe(config).images, {}  # its defaults: a tenth of the training images
    for snapshot in Trajectory.open(teacher_run):
        network = snapshot.build()
        inputs = network.data_preprocessor(dict(inputs=images.pixels), False)['inputs']
        with torch.no_grad():
            expected[snapshot.epoch] = conditional_mutual_information(
                network(inputs).double().log_softmax(1), images.labels).item()
    part, best = selected['by_trajectory'][0], max(expected, key=expected.get)
    assert {row['epoch']: row['score'] for row in part['scores']} == pytest.approx(expected, rel=1e-4)
    assert selected['epochs'] == [best]
    assert part['cost']['teacher_forwards'] == 3 * len(images)
    assert 'probe' not in summary['seconds']  # the selector needs no plane
    row = f'<td class="n">{best}</td><td class="n">{part["scores"][best - 1]["score"]:.6g}</td>'
    assert f'<tr class="chosen">{row}' in Path(config.work_dir, 'report.html').read_text()


@pytest.mark.parametrize('selector', ['cmi', 'calibration'])
def test_one_forward_pass_is_enough(given, tmp_path, monkeypatch, selector):
    config, passed, build = given(selector), [], Snapshot.build

    def counted(self, *arguments):
        network = build(self, *arguments)
        network.backbone.register_forward_hook(lambda _module, inputs, _output: passed.append(len(inputs[0])))
        return network

    run, stage = selection(config)
    monkeypatch.setattr(Snapshot, 'build', counted)
    monkeypatch.setattr('ckd_mm.infoplane.estimators.information_x',
                        lambda *args: pytest.fail('a decoder was trained'))
    stage.selector.select(stage.trajectories(run)[0], stage.context(run, tmp_path / 'select'))
    assert sum(passed) == 3 * 64  # snapshots and held-out images


@pytest.mark.parametrize('held_out, warned', [(32, True), (64, False)])
def test_a_teacher_that_has_seen_the_images_is_warned_of(given, tmp_path, held_out, warned):
    config, lines = given('calibration'), []
    config.probe = dict(held_out=held_out, decoder_epochs=1)
    run, stage = selection(config, log=lines.append)
    stage.selector.select(stage.trajectories(run)[0], stage.context(run, tmp_path / 'scores'))
    assert any('trained without the held-out images' in line for line in lines) == warned


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
    run, stage = selection(given(selector, **{'train_dataloader.batch_size': 32}))
    expected = stage.selector.select(taught, stage.context(run, tmp_path / 'expected')).scores
    found = read_json(folder / 'selection.json')['scores']
    assert [row['score'] for row in found] == [row['score'] for row in expected]


# ------------------------------------------------------------ ensembles of several trainings
def test_ensemble_of_two_trainings(distil_run):
    # epoch 2, the half-way one, is the selector's own wish
    config = distil_run(teacher=dict(snapshots=dict(epochs=[3]), train_cfg=dict(max_epochs=4)))
    config.probe, config.selector = None, dict(type='ensemble', kind='mixed', k=2)
    summary = CheckpointDistillRunner(config).train()
    first, second = Trajectory.open(config.work_dir), Trajectory.open(config.work_dir + '/teacher_2')
    assert (first.times, second.times) == ([2, 3], [3, 4])
    assert second.info['seed'] == first.info['seed'] + 1
    assert not all(map(torch.equal, first.at(3).state_dict().values(), second.at(3).state_dict().values()))
    selected = read_json(config.work_dir + '/selection.json')
    assert [(teacher['trajectory'], teacher['epoch']) for teacher in selected['teachers']] == [
        (str(first.folder), 2), (str(second.folder), 4)]
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
    CheckpointDistillRunner(again).train(until='select')
    assert read_json(again.work_dir + '/selection.json')['epochs'] == [3, 4]


# ------------------------------------------------------------ short trainings
def test_short_probe_halves_and_goes_on_where_it_stopped(given, trials):
    config = given(dict(type='short_probe', epochs=1), **{'train_cfg.max_epochs': 4})
    part = select(config)
    # three for one epoch, the better two for two (half of three, rounded up), then one is left
    names = [Path(runner.work_dir).name for runner in trials]
    assert names[:3] == ['epoch_1', 'epoch_2', 'epoch_3']
    assert [runner.max_epochs for runner in trials] == [1, 1, 1, 2, 2]
    assert all(len(runner.train_dataloader.dataset) == 200 - 64 for runner in trials)
    rows = {row['epoch']: row for row in part['scores']}
    second_round = [epoch for epoch, row in rows.items() if row['score'] >= 100]
    assert {f'epoch_{epoch}' for epoch in second_round} == set(names[3:])
    assert {rows[epoch]['student_epochs'] for epoch in second_round} == {2}
    best = max(second_round, key=lambda epoch: rows[epoch]['accuracy'])
    assert part['epochs'] == [best]
    # it went on from its checkpoint: that of two epochs has both epochs' iterations
    state = torch.load(f'{config.work_dir}/select/epoch_{best}/epoch_2.pth', weights_only=False)
    assert state['meta']['iter'] == 2 * -(-(200 - 64) // 16)


def test_a_selection_for_another_student_is_refused(given):
    config = given('short_probe')
    select(config)
    config.resume = True
    config.train_dataloader.drop_last = True
    select(config)  # but for how the student is trained, unchanged: nothing to do
    config.model = resnet(channels=8)
    with pytest.raises(ConfigError, match='select was finished with other settings: '
                                          'student.model.backbone.base_channels was 4, now 8'):
        select(config)


class Killed(BaseException):
    """Stands for a kill; nothing catches it."""


def killed_after(count, config, monkeypatch):
    """A selection by short trainings that ends after so many of them, and is to be resumed."""
    train, left = StudentTask._train, iter(range(count))

    def killed(task, stage):
        if next(left, None) is None:
            raise Killed
        return train(task, stage)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StudentTask, '_train', killed)
        select(config)
    config.resume = True
    return config


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Of an unbroken short probe: the scores, and the rows of the first round."""
    return {}


def first_round(config) -> list:
    return read_json(f'{config.work_dir}/select/scores_short_probe_round_1.json')['rows']


@pytest.mark.parametrize('checkpoint', [dict(), dict(by_epoch=False, interval=7)])
def test_short_probe_killed_between_rounds(short_probe, monkeypatch, whole, checkpoint):
    """The student of epoch 1 has had two epochs when the run is killed: its first round is still that of one
    epoch."""
    if not whole:
        config = short_probe('whole')
        whole.update(scores=without_seconds(select(config)['scores']), first=first_round(config))
    broken = killed_after(4, short_probe('broken', **{'default_hooks.checkpoint': checkpoint}), monkeypatch)
    assert without_seconds(select(broken)['scores']) == whole['scores']
    accuracies = [row['accuracy'] for row in whole['first']]
    assert [row['accuracy'] for row in first_round(broken)] == accuracies
    assert max(row['accuracy'] for row in whole['scores']) > max(accuracies)


def test_short_probe_killed_and_changed(short_probe, monkeypatch):
    config = killed_after(1, short_probe('run'), monkeypatch)
    config.optim_wrapper.optimizer.lr = 0.001
    with pytest.raises(ConfigError, match=r'student.optim_wrapper.optimizer.lr was 0.05, now 0.001. .*move '
                                          r'.*/select away'):
        select(config)


def test_short_probe_of_more_snapshots(short_probe, tmp_path):
    """Those that were scored before are scored anew among all, from where their students are."""
    run, stage = selection(short_probe('more'))
    everything = stage.trajectories(run)[0]
    few, again, once = (
        stage.selector.select(Trajectory(everything.folder, everything.snapshots[:count], everything.info),
                              stage.context(run, tmp_path / name)).scores
        for name, count in (('same', 2), ('same', 3), ('once', 3)))
    assert without_seconds(again) == without_seconds(once) and len(few) == 2


def test_short_trials_are_like_the_students_training(short_probe, teacher_run, tmp_path, monkeypatch, trials):
    """Its initial weights and averaged weights count, weights of several teachers do not; all held-out images
    judge."""
    config = short_probe('own', custom_hooks=[dict(type='EMAHook', momentum=1e-4)])
    torch.manual_seed(7)
    start = MODELS.build(dict(resnet(2, 8), data_preprocessor=config.data_preprocessor)).state_dict()
    torch.save(dict(state_dict=start, meta={}), tmp_path / 'start.pth')
    config.load_from, config.optim_wrapper.optimizer.lr = str(tmp_path / 'start.pth'), 0.001
    config.teacher, config.distill.teacher_weights = dict(trajectory=[str(teacher_run)] * 2), [0.7, 0.3]
    run, stage = selection(config)
    task, evaluated = stage.context(run, tmp_path / 'task').student, []
    trajectory = stage.trajectories(run)[0]
    monkeypatch.setattr('ckd_mm.stages.student_task.evaluate',
                        lambda model, *args: evaluated.append(model) or {'accuracy/top1': 1.0})
    assert task.distil(trajectory, trajectory.last, 1) == (1.0, 900 - 300, 300)
    runner, = trials
    assert runner.cfg.load_from == str(tmp_path / 'start.pth') and not runner.cfg.resume
    moved, averaged = ((model.state_dict()['head.fc.weight'] - start['head.fc.weight']).abs().max().item()
                       for model in (runner.model, *evaluated))
    assert 0 < averaged < 0.1 * moved and moved < 0.1  # from these weights, little; the average still less


@pytest.mark.parametrize('scheduler', [
    dict(type='PolyLR', eta_min=0, power=1, by_epoch=False), dict(type='PolyLR', eta_min=0, power=1),
    [dict(type='PolyLR', eta_min=0, power=1, convert_to_iter_based=True)]])
def test_a_short_trial_is_the_first_part_of_the_schedule(given, tmp_path, trials, scheduler):
    """One of eight epochs of a learning rate that falls straight from 0.05 to 0; the second trial goes on to
    the second."""
    run, stage = selection(given('short_probe', **{'train_cfg.max_epochs': 8, 'param_scheduler': scheduler}))
    task, trajectory = stage.context(run, tmp_path / 'trials').student, stage.trajectories(run)[0]
    for epochs in (1, 2):
        task.distil(trajectory, trajectory.last, epochs)
    rates = [runner.optim_wrapper.get_lr()['lr'][0] for runner in trials]
    # mmengine's falls in one step less than there are, by epochs to 6/7 and 5/7
    assert rates == pytest.approx([0.05 * 7 / 8, 0.05 * 6 / 8], rel=0.05)
