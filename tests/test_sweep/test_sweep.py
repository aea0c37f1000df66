"""Real sweeps on a few digits: 3 epochs of teacher, 2 of students."""

import copy
import json
import re
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ckd_mm.errors import ConfigError
from ckd_mm.files import write_json
from ckd_mm.pipeline.resumable_loop import ResumableEpochLoop
from ckd_mm.sweep import Sweep, Trial, collect, make_search, plan_trials
from ckd_mm.sweep.teachers import snapshot_epochs
from ckd_mm.trajectory import Trajectory

from ..conftest import run_tool
from ..helpers import assert_same_weights, weights_of

KEPT = dict(snapshots=dict(epochs=[1, 3]))
OTHER_TAU = dict(distill=dict(tau=2.0))


def student(trial):
    return weights_of(trial / 'student.pth')


def results_of(folder):
    text, results = collect(folder), json.loads((folder / 'results.json').read_text())
    return text, results, {trial['name']: trial for trial in results['trials']}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('swept') / 'sweep'


@pytest.fixture
def swept(folder, config, run_commands):
    """A finished sweep that all tests here read: students of epochs 1 and 3, and without a teacher."""
    if not folder.exists():
        ran = run_commands(Sweep(config(folder, teacher=KEPT), plan_trials([7], [1, 3])))
        assert ran == ['teacher_run', 'alone_seed_7', 'epoch_1_seed_7', 'epoch_3_seed_7']
    return folder


def test_trials_are_ordinary_runs(swept, digits_run, distil_run, tmp_path):
    """Each trial by hand; the undistilled one by mmpretrain alone."""
    text, results, trials = results_of(swept)
    assert 'epoch 3' in text and 'not finished' not in text and (swept / 'sweep.png').exists()
    assert results['trajectory'] == [str(swept / 'teacher_run')]
    held_out = Trajectory.open(swept / 'teacher_run').info['held_out']
    assert held_out.items() >= dict(held_out=16, seed=0).items()

    hand = distil_run(work_dir=str(tmp_path / 'hand'))
    hand.probe, hand.selector, hand.randomness.seed = None, dict(type='epoch', epochs=1), 7
    hand.teacher = dict(trajectory=str(swept / 'teacher_run'))
    summary, row = RUNNERS.build(hand).train(), trials['epoch_1_seed_7']
    assert_same_weights(student(swept / 'trials' / 'epoch_1_seed_7'), student(tmp_path / 'hand'))
    assert results['epochs'][0]['accuracies'] == [row['accuracy_top1']]
    assert row['accuracy_top1'] == summary['student']['accuracy_top1']
    assert (row['cohort_accuracy_top1'], row['teacher_epochs'], row['cost']['total_epochs']) == \
        (summary['cohort']['accuracy_top1'], [1], 3)

    plain = Runner.from_cfg(digits_run(work_dir=tmp_path / 'plain', randomness=dict(seed=7)))
    plain = plain.train().state_dict()
    alone = student(swept / 'trials' / 'alone_seed_7')
    assert all(torch.equal(alone[key], plain[key]) for key in plain)
    assert results['alone']['cost']['total_epochs'] == 2


def test_extended_and_not_repeated(swept, config, tmp_path, run_commands):
    moved = tmp_path / 'moved'
    shutil.copytree(swept, moved)
    before = {path: path.stat().st_mtime_ns for path in moved.rglob('*.pth')}
    same = Sweep(config(moved, teacher=KEPT), plan_trials([7], [1, 3]))
    assert list(same.write(['train']).values()) == [[], []]
    assert [(moved / f'{name}.txt').read_text() for name in ('teachers', 'students')] == ['', '']
    more = Sweep(config(moved, teacher=KEPT), plan_trials([7, 8], [3], alone=False))
    more.write(['train'])
    assert collect(moved).splitlines()[-2] == '1 of 4 trials are not finished: epoch_3_seed_8'
    assert run_commands(more) == ['epoch_3_seed_8']
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    text, results, _ = results_of(moved)
    assert 'not finished' not in text
    assert [(row['epoch'], row['seeds']) for row in results['epochs']] == [(1, [7]), (3, [7, 8])]

    manifest = moved / 'teacher_run' / 'trajectory.json'
    found = json.loads(manifest.read_text())
    found['snapshots'][0]['sha256'] = '0' * 64
    manifest.write_text(json.dumps(found))
    with pytest.raises(ConfigError, match='trial epoch_1_seed_7 is finished, but its teacher of epoch 1 was '
                                          'another'):
        Sweep(config(moved, teacher=KEPT), plan_trials([7], [3]))


@pytest.mark.parametrize('settings, seed, epoch, message', [
    (OTHER_TAU, 7, 1, 'trial epoch_1_seed_7 was finished with other settings: distill.tau was 4.0, now 2.0'),
    (OTHER_TAU, 5, 1, 'trial epoch_1_seed_7 was finished with other settings'),  # one mean would hold both
    (dict(teacher=dict(KEPT, optim_wrapper=dict(optimizer=dict(lr=0.5)))), 5, 1,
     'stage teacher was finished with other settings: optim_wrapper.optimizer.lr was 0.05, now 0.5'),
    ({}, 7, 2, r'leaves no snapshot after epochs \[2\]; choose among \[1, 3\]')])
def test_what_has_begun_is_refused_other_settings(swept, config, settings, seed, epoch, message):
    with pytest.raises(ConfigError, match=message):
        Sweep(config(swept, **dict(dict(teacher=KEPT), **settings)),
              plan_trials([seed], [epoch], alone=False))


def test_a_search_needs_a_folder_of_its_own(swept, config):
    with pytest.raises(ConfigError, match='sweep belongs to a sweep; choose another --work-dir'):
        make_search(config(swept), {'distill.tau': [1.0]}, [0])


def test_what_has_not_begun_is_written_anew(config, tmp_path):
    Sweep(config(), plan_trials([0], [3], alone=False)).write(['train'])
    file = tmp_path / 'sweep' / 'trials' / 'epoch_3_seed_0' / 'epoch_3_seed_0.py'
    before = Config.fromfile(file)
    assert (before.selector, before.randomness.seed, before.teacher.trajectory, before.distill.tau) == \
        (dict(type='epoch', epochs=3), 0, str(tmp_path / 'sweep' / 'teacher_run'), 4.0)
    lists = Sweep(config(distill=dict(tau=2.0), teacher=dict(snapshots=dict(epochs=[2]))),
                  plan_trials([1], [1], alone=False)).write(['python', 'train.py'])
    assert Config.fromfile(file).distill.tau == 2.0
    teacher = tmp_path / 'sweep' / 'teacher_run' / 'teacher_run.py'
    assert Config.fromfile(teacher).teacher.snapshots['epochs'] == [1, 2, 3]
    assert list(lists.values()) == [
        [f'python train.py {teacher} --until teacher --resume'],
        [f'python train.py {file.parents[1]}/{name}/{name}.py --resume'
         for name in ('epoch_1_seed_1', 'epoch_3_seed_0')]]


def test_a_killed_trial_is_resumed(swept, config, tmp_path, monkeypatch, run_commands):
    """From its last checkpoint; the others are left as they are."""
    run_iter = ResumableEpochLoop.run_iter

    class Killed(BaseException):
        pass

    def killed(self, idx, data_batch):
        if self.runner.work_dir.endswith('trials/epoch_3_seed_7/student') and self.runner.iter == 5:
            raise Killed  # in its second epoch of four iterations
        run_iter(self, idx, data_batch)

    def sweep(**settings):
        made = config(**settings)
        made.teacher = dict(trajectory=str(swept / 'teacher_run'))
        return Sweep(made, plan_trials([7], [1, 3], alone=False))

    with monkeypatch.context() as patch:
        patch.setattr(ResumableEpochLoop, 'run_iter', killed)
        with pytest.raises(Killed):
            run_commands(sweep())
    folder = tmp_path / 'sweep' / 'trials' / 'epoch_3_seed_7'
    first_epoch = (folder / 'student' / 'epoch_1.pth').stat().st_mtime_ns
    assert '1 of 2 trials are not finished: epoch_3_seed_7' in collect(tmp_path / 'sweep')
    with pytest.raises(ConfigError, match='trial epoch_._seed_7 was .* settings: distill.tau was 4.0'):
        sweep(**OTHER_TAU)
    assert run_commands(sweep()) == ['epoch_3_seed_7']
    assert (folder / 'student' / 'epoch_1.pth').stat().st_mtime_ns == first_epoch
    assert_same_weights(student(folder), student(swept / 'trials' / 'epoch_3_seed_7'))


def test_one_process_is_not_eight(config):
    made = config(auto_scale_lr=dict(base_batch_size=128))
    with pytest.raises(ConfigError, match='one process, 16 images a step, and the learning rate is for 128'):
        Sweep(made, plan_trials([0], [3]))
    for way in (dict(auto_scale_lr=dict(enable=True)), dict(train_dataloader=dict(batch_size=128)),
                dict(optim_wrapper=dict(accumulative_counts=8))):
        right = copy.deepcopy(made)
        right.merge_from_dict(way)
        Sweep(right, plan_trials([0], [3]))


@pytest.mark.parametrize('trials, settings, message', [
    (plan_trials([0], [4]), {},
     'snapshots: epochs=[1, 2, 3, 4] asks for epoch 4, but the run ends after 3 epochs'),
    (plan_trials([0], [1, 1]), {}, 'trial epoch_1_seed_0 is listed twice'),
    (plan_trials([0], [1]), dict(distill=dict(tau=-1.0)), 'tau=-1.0'),
    ([Trial('epoch', 0, epoch=1, overrides={'distill.tauu': 1})], {},
     "trial epoch_1_tauu_1_seed_0: distill: unknown key 'tauu'")])
def test_errors_come_before_anything_is_written(config, tmp_path, trials, settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Sweep(config(**settings), trials)
    assert not (tmp_path / 'sweep').exists()


def test_ensembles_train_as_many_teachers_as_they_need(config, tmp_path, run_commands):
    """Here of the student's own network, so with seeds of their own."""
    made, folder = config(), tmp_path / 'sweep'
    made.teacher.model, seed = made.model, made.randomness.seed
    assert snapshot_epochs(made) == [1, 2, 3]
    sweep = Sweep(made, plan_trials([seed], (), ['snapshot', 'full'], [1, 2], alone=False))
    assert run_commands(sweep)[:2] == ['teacher_run', 'teacher_run_2']
    text, results, trials = results_of(folder)
    assert 'ensembles.png' in text
    assert results['trajectory'] == [str(folder / 'teacher_run'), str(folder / 'teacher_run_2')]
    first, second = map(Trajectory.open, results['trajectory'])
    assert (first.info['seed'], second.info['seed']) == (1000 + seed, 1001 + seed)
    assert (first.times, second.times) == ([1, 2, 3], [3]), 'of the second only the end is wanted'
    # Figure 3: snapshots of one training of 3 epochs, or the ends of k trainings; the student learns for 2
    assert [(row['kind'], row['k'], row['cost']['total_epochs']) for row in results['ensembles']] == \
        [('full', 1, 5), ('full', 2, 8), ('snapshot', 1, 5), ('snapshot', 2, 5)]
    assert {name: trial['teacher_epochs'] for name, trial in trials.items()} == {
        f'full_1_seed_{seed}': [3], f'full_2_seed_{seed}': [3, 3], f'snapshot_1_seed_{seed}': [3],
        f'snapshot_2_seed_{seed}': [2, 3]}
    full, snapshot = results['ensembles'][0], results['ensembles'][2]
    assert full['accuracies'] == snapshot['accuracies'], 'k=1 is the full teacher either way'
    given = config(tmp_path / 'other')
    given.teacher = dict(trajectory=results['trajectory'][0])
    with pytest.raises(ConfigError, match='needs 2 trainings'):
        Sweep(given, plan_trials([0], (), ['full'], [2]))


def test_the_commands(config, tmp_path, tool):
    """As printed, in processes, in a folder whose name has to be quoted."""
    made, folder = config(), tmp_path / "a sweep's"
    made.custom_imports = dict(imports=['ckd_mm'], allow_failed_imports=False)
    made.dump(tmp_path / 'config.py')
    call = ['sweep.py', tmp_path / 'config.py', '--work-dir', folder, '--seeds', 0, '--no-alone',
            '--epochs', 1]
    status, out, _ = tool(*call)
    assert status == 0 and 'teachers.txt: 1 to run' in out and 'students.txt: 1 to run' in out
    command = next(line.strip() for line in out.splitlines() if 'xargs' in line)
    assert '--gres=gpu:1 tools/slurm_sweep.sh' in out and command.count('xargs') == 2
    assert '1 of 1 trials are not finished' in tool('sweep.py', '--collect', folder)[1]
    run_tool('sh', '-c', command)
    status, out, _ = tool('sweep.py', '--collect', folder)
    assert status == 0 and 'not finished' not in out
    assert [row['epoch'] for row in results_of(folder)[1]['epochs']] == [1]
    status, out, _ = tool(*call)
    assert status == 0 and 'xargs' not in out and 'students.txt: 0 to run' in out
    call[3] = tmp_path / 'other'
    status, out, _ = tool(*call[:-1], 2, '--trajectory', folder / 'teacher_run')
    assert status == 0 and 'teachers.txt: 0 to run' in out and 'students.txt: 1 to run' in out


@pytest.mark.parametrize('arguments, status, message', [
    (['config.py', '--search', 'distill.tau=1,2', '--ensembles', 'full'], 1,
     '--search and --ensembles cannot be given together'),
    (['config.py', '--collect', 'W'], 2, 'give a CONFIG to make a sweep of, or --collect W'),
    (['--collect', '.'], 1, 'sweep.json does not exist'),
    (['--collect', 'list'], 1, 'sweep.json is damaged: the plan=[] should be a dict'),
    (['--collect', 'trial'], 1, 'sweep.json is damaged: trials[0]: TypeError')])
def test_not_a_sweep(arguments, status, message, config, tmp_path, tool, monkeypatch):
    config().dump(tmp_path / 'config.py')
    monkeypatch.chdir(tmp_path)
    for name, content in (('list', []), ('trial', dict(trials=[dict(x=1)], trajectory=[], search=None,
                                                       config_text=''))):
        write_json(tmp_path / name / 'sweep.json', content)
    found, _, error = tool('sweep.py', *arguments)
    assert found == status and message in error
