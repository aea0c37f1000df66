"""Real sweeps on a few digits: 3 epochs of teacher, 2 of students."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ckd_mm.errors import ConfigError
from ckd_mm.pipeline import CheckpointDistillRunner, ResumableEpochLoop
from ckd_mm.sweep import Sweep, Trial, load_results, plan_trials, snapshot_epochs_of
from ckd_mm.sweep import trials as trials_module
from ckd_mm.sweep.lock import Locked, lock
from ckd_mm.sweep.trials import LOCK
from ckd_mm.trajectory import Trajectory

from ..conftest import ROOT, resnet
from ..helpers import assert_same_weights, trajectory


@pytest.fixture
def config(distil_run, tmp_path):

    def make(**settings):
        made = distil_run(work_dir=str(tmp_path / 'sweep'), **settings)
        made.probe, made.selector = dict(held_out=16), 'last'
        return made

    return make


def student(folder):
    return torch.load(folder / 'student.pth', weights_only=True)['state_dict']


def status_of(sweep):
    return {row['name']: row['status'] for row in sweep.rows()}


def test_trials_are_ordinary_runs(config, digits_run, distil_run, tmp_path):
    """Each trial by hand; the undistilled one by mmpretrain alone."""
    sweep = Sweep(config(), plan_trials([7], [1, 3]))
    assert sweep.run() == {}
    sweep.collect()
    folder = tmp_path / 'sweep'
    results = load_results(folder)
    assert results.trajectory == [str(folder / 'teacher_run')]
    assert Trajectory.open(results.trajectory[0]).info['held_out'] == dict(held_out=16, seed=0)

    hand = distil_run(work_dir=str(tmp_path / 'hand'))
    hand.probe, hand.selector, hand.randomness.seed = None, dict(type='epoch', epochs=1), 7
    hand.teacher = dict(trajectory=str(folder / 'teacher_run'))
    summary = RUNNERS.build(hand).train()
    assert_same_weights(student(folder / 'trials' / 'epoch_1_seed_7'), student(tmp_path / 'hand'))
    row, = (row for row in results.trials if row['name'] == 'epoch_1_seed_7')
    assert results.by_epoch()[1] == [row['accuracy_top1']] == [summary['student']['accuracy_top1']]
    assert (row['cohort_accuracy_top1'], row['teacher_epochs'], row['cost']['total_epochs']) == \
        (summary['cohort']['accuracy_top1'], [1], 3)

    plain = Runner.from_cfg(digits_run(work_dir=tmp_path / 'plain',
                                       randomness=dict(seed=7))).train().state_dict()
    alone = student(folder / 'trials' / 'alone_seed_7')
    assert all(torch.equal(alone[key], plain[key]) for key in plain)
    assert results.alone['cost']['total_epochs'] == 2

    # what a trial ran is a config file of its own
    file = folder / 'trials' / 'epoch_3_seed_7' / 'epoch_3_seed_7.py'
    from mmengine.config import Config
    again = Config.fromfile(file)
    assert (again.selector, again.randomness.seed, again.teacher.trajectory) == \
        (dict(type='epoch', epochs=3), 7, str(folder / 'teacher_run'))


def test_extended_and_not_repeated(config, tmp_path, monkeypatch):
    Sweep(config(), plan_trials([0], [1], alone=False)).run()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'sweep').rglob('*.pth')}

    def built(self):
        raise AssertionError('a finished trial was built')

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointDistillRunner, '_start', built)
        assert Sweep(config(), plan_trials([0], [1], alone=False)).run() == {}
    more = Sweep(config(), plan_trials([0, 1], [1, 2], alone=False))
    assert [trial.name for trial, _, _ in more.todo] == ['epoch_2_seed_0', 'epoch_1_seed_1', 'epoch_2_seed_1']
    assert more.run() == {}
    assert all(path.stat().st_mtime_ns == time
               for path, time in before.items()), 'the teacher and finished trials should be kept'
    # what the collector finds is everything in the folder
    Sweep(config(), plan_trials([0], [2], alone=False)).collect()
    assert {
        epoch: len(found)
        for epoch, found in load_results(tmp_path / 'sweep').by_epoch().items()
    } == {
        1: 2, 2: 2
    }

    with pytest.raises(ConfigError, match=r'trial epoch_1_seed_0 was finished with other settings: '
                                          r'distill.tau was 4.0, now 2.0'):
        Sweep(config(distill=dict(tau=2.0)), plan_trials([0], [1]))
    with pytest.raises(ConfigError, match=r'trial epoch_1_seed_0 was finished with other settings: '
                                          r'distill.tau was 4.0, now 2.0'):
        Sweep(config(distill=dict(tau=2.0)), plan_trials([5], [1]))  # the same mean would hold both
    with pytest.raises(ConfigError, match=r'stage teacher was finished with other settings: '
                                          r'optim_wrapper.optimizer.lr was 0.05, now 0.5'):
        Sweep(config(teacher=dict(optim_wrapper=dict(optimizer=dict(lr=0.5)))), plan_trials([5], [1]))
    trained = json.loads((tmp_path / 'sweep' / 'teacher_run' / 'trajectory.json').read_text())
    trained['snapshots'][0]['sha256'] = 'other'
    (tmp_path / 'sweep' / 'teacher_run' / 'trajectory.json').write_text(json.dumps(trained))
    with pytest.raises(ConfigError, match='trial epoch_1_seed_0 is finished, but its teacher of epoch 1 was '
                                          'another'):
        Sweep(config(), plan_trials([0], [1], alone=False))


def test_a_failed_trial_and_a_killed_one(config, tmp_path, monkeypatch):
    """The others go on; the next start does what is left, the killed one from its last checkpoint."""
    Sweep(config(), [Trial('epoch', 0, epoch=2)], folder='unbroken').run()
    train, run_iter = CheckpointDistillRunner.train, ResumableEpochLoop.run_iter

    class Killed(BaseException):
        pass

    def fails_once(self, until=None):
        if self.work_dir.name == 'epoch_1_seed_0':
            raise OSError('no space left')
        return train(self, until)

    def killed(self, idx, data_batch):
        if self.runner.work_dir.endswith(
                'trials/epoch_2_seed_0/student') and self.runner.iter == 5:  # in its second epoch of four
            raise Killed
        run_iter(self, idx, data_batch)

    trials = plan_trials([0], [1, 3, 2], alone=False)
    with monkeypatch.context() as patch:
        patch.setattr(trials_module.CheckpointDistillRunner, 'train', fails_once)
        patch.setattr(ResumableEpochLoop, 'run_iter', killed)
        sweep = Sweep(config(), trials)
        with pytest.raises(Killed):
            sweep.run()
    assert status_of(sweep) == {
        'epoch_1_seed_0': 'failed', 'epoch_3_seed_0': 'finished', 'epoch_2_seed_0': 'begun'
    }
    failure = json.loads((sweep.folder / 'epoch_1_seed_0' / 'failed.json').read_text())
    assert failure['error'] == 'OSError: no space left' and 'fails_once' in failure['traceback']
    assert '2 of 3 trials are not finished: 1 begun, 1 failed' in sweep.collect()

    first_epoch = sweep.folder / 'epoch_2_seed_0' / 'student' / 'epoch_1.pth'
    written = first_epoch.stat().st_mtime_ns
    again = Sweep(config(), trials)
    assert [trial.name for trial, _, _ in again.todo] == ['epoch_1_seed_0', 'epoch_2_seed_0']
    assert again.run() == {} and set(status_of(again).values()) == {'finished'}
    assert first_epoch.stat().st_mtime_ns == written
    assert_same_weights(student(sweep.folder / 'epoch_2_seed_0'),
                        student(tmp_path / 'sweep' / 'unbroken' / 'epoch_2_seed_0'))


def test_a_trial_that_another_process_runs_is_skipped(config, capsys):
    sweep = Sweep(config(), plan_trials([0], [3], alone=False))
    from ckd_mm.sweep.lock import lock
    with lock(sweep.folder / 'epoch_3_seed_0' / 'lock'):
        assert sweep.run() == {} and not (sweep.folder / 'epoch_3_seed_0' / 'stages.json').exists()
    assert 'Trial epoch_3_seed_0 is being run by process' in capsys.readouterr().out


def test_a_schedule_that_compares_on_the_images_of_the_probe(config):
    made = config(distill=dict(schedule=dict(type='ckd_mm.StopWhenOvertakenHook')))
    sweep = Sweep(made, plan_trials([0], [3]))
    assert sweep.run() == {}
    for name in ('epoch_3_seed_0', 'alone_seed_0'):  # which are compared: on the same images
        stages = json.loads((sweep.folder / name / 'stages.json').read_text())
        assert stages['student']['settings'].get('train_dataloader.dataset.held_out') == 16, name


def test_one_process_is_not_eight(config):
    # 16 images a step
    made = config(auto_scale_lr=dict(base_batch_size=128))
    with pytest.raises(ConfigError, match='one process, 16 images a step, and the learning rate is for 128'):
        Sweep(made, plan_trials([0], [3]))
    for way in (dict(auto_scale_lr=dict(enable=True)), dict(train_dataloader=dict(batch_size=128)),
                dict(optim_wrapper=dict(accumulative_counts=8))):
        right = copy.deepcopy(made)
        right.merge_from_dict(way)
        Sweep(right, plan_trials([0], [3]))


@pytest.mark.parametrize('trials, settings, message', [
    (plan_trials([0], [4]), {}, r'snapshots: epochs=\[1, 2, 3, 4\] asks for epoch 4, but the run ends after '
                                r'3 epochs'),
    (plan_trials([0], [1, 1]), {}, 'trial epoch_1_seed_0 is asked for twice'),
    (plan_trials([0], [1]), dict(distill=dict(tau=-1.0)), 'tau=-1.0'),
    ([Trial('epoch', 0, epoch=1, overrides={'distill.tauu': 1})], {}, "trial epoch_1_tauu_1_seed_0: "
                                                                      "distill: unknown key 'tauu'")])
def test_found_before_anything_is_trained(config, tmp_path, trials, settings, message):
    with pytest.raises(ConfigError, match=message):
        Sweep(config(**settings), trials)
    assert not (tmp_path / 'sweep').exists()


def test_epochs_that_the_trained_teacher_did_not_leave(config):
    made = config(teacher=dict(snapshots=dict(epochs=[1, 3])))
    assert snapshot_epochs_of(made) == [1, 3]
    Sweep(made, plan_trials([0], [3], alone=False)).teacher.train()
    with pytest.raises(ConfigError, match=r'leaves no snapshot after epochs \[2\]; choose among \[1, 3\]'):
        Sweep(made, plan_trials([0], [2]))


def test_teachers_are_trained_by_whoever_is_free(config, tmp_path):
    sweep = Sweep(config(), plan_trials([0], (), ['full'], [2], alone=False))
    first, second = sweep.teacher.trainings
    with lock(first.folder / LOCK):  # another process is at the first
        with pytest.raises(Locked, match='process'):
            first.run()
        second.run()
        assert (first.done, second.done, sweep.teacher.trained) == (False, True, False)
    sweep.teacher.train(poll=0)
    assert sweep.teacher.trained and [folder.name for folder in sweep.teacher.folders
                                      ] == ['teacher_run', 'teacher_run_2']


def test_teachers_of_the_students_network_have_seeds_of_their_own(config):
    made = config()
    made.teacher.model = made.model
    seed = made.randomness.seed
    trainings = Sweep(made, plan_trials([seed], (), ['full'], [2], alone=False)).teacher.trainings
    assert [training.plan.teacher_config().randomness.seed
            for training in trainings] == [1000 + seed, 1001 + seed]


def test_ensembles_train_as_many_teachers_as_they_need(config, tmp_path):
    sweep = Sweep(config(), plan_trials([0], (), ['snapshot', 'full'], [1, 2], alone=False))
    assert sweep.run() == {}
    results = sweep.collect() and load_results(tmp_path / 'sweep')
    assert results.trajectory == [
        str(tmp_path / 'sweep' / 'teacher_run'), str(tmp_path / 'sweep' / 'teacher_run_2')
    ]
    first, second = map(Trajectory.open, results.trajectory)
    assert second.info['seed'] == first.info['seed'] + 1
    assert (first.epochs, second.epochs) == ([1, 2, 3], [3]), 'of the second only its end is wanted'
    # Figure 3: the snapshots of one training of 3 epochs, or the ends of k trainings; the student learns for
    # 2
    assert [(row['kind'], row['k'], row['cost']['total_epochs']) for row in results.ensembles] == \
        [('full', 1, 5), ('full', 2, 8), ('snapshot', 1, 5), ('snapshot', 2, 5)]
    members = {row['name']: row['teacher_epochs'] for row in results.trials}
    assert members == {
        'full_1_seed_0': [3], 'full_2_seed_0': [3, 3], 'snapshot_1_seed_0': [3], 'snapshot_2_seed_0': [2, 3]
    }
    assert results.ensembles[0]['accuracies'] == results.ensembles[2][
        'accuracies'], 'k=1 is the full teacher either way'
    with pytest.raises(ConfigError, match='needs 2 trainings'):
        given = config()
        given.work_dir, given.teacher = str(tmp_path / 'other'), dict(trajectory=results.trajectory[0])
        Sweep(given, plan_trials([0], (), ['full'], [2]))


def test_exit_status(config, tmp_path, monkeypatch, tool):
    """As a command: failed trials are named at the end; --collect says what there is; --trajectory stands for
    training a teacher."""
    made = config()
    made.custom_imports = dict(imports=['ckd_mm'], allow_failed_imports=False)
    made.dump(tmp_path / 'config.py')
    trajectory(tmp_path / 'given', epochs=(1, 2, 3))

    def call(*arguments):
        return tool('sweep.py', tmp_path / 'config.py', '--work-dir', tmp_path / 'sweep', '--trajectory',
                    tmp_path / 'given', '--seeds', 0, '--no-alone', *arguments)

    def full(self, until=None):
        if self.work_dir.name == 'epoch_2_seed_0':
            raise OSError('no space left')
        return train(self, until)

    train = CheckpointDistillRunner.train
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointDistillRunner, 'train', full)
        status, out, err = call('--epochs', '1', '2')
    assert status == 1 and err.strip().splitlines()[-1].startswith('error: 1 trial(s) failed: '
                                                                   'epoch_2_seed_0 (OSError: no space left).')
    assert '1 of 2 trials are not finished: 1 failed' in out
    status, out, err = call('--collect')  # all snapshots
    assert status == 1 and '2 of 3 trials are not finished: 1 failed, 1 waiting' in out and 'epoch_2_seed_0' in err
    status, out, _ = call('--epochs', '1', '2')
    assert status == 0 and 'are not finished' not in out
    assert list(load_results(tmp_path / 'sweep').by_epoch()) == [1, 2]
    status, _, err = call('--search', 'distill.tau=1,2', '--ensembles', 'full')
    assert status == 1 and '--search and --ensembles cannot be given together' in err


def test_two_processes(distil_run, tmp_path):
    """Each does half of the trials, one trains the teacher and the other waits for it; whoever is last draws
    the whole."""
    made = distil_run(work_dir=str(tmp_path / 'unused'))
    made.probe, made.custom_imports = None, dict(imports=['ckd_mm'], allow_failed_imports=False)
    made.teacher.model, made.selector = resnet(2), 'last'
    made.dump(tmp_path / 'config.py')
    command = [
        sys.executable, 'tools/sweep.py', tmp_path / 'config.py', '--work-dir', tmp_path / 'sweep',
        '--epochs', 1, 3, '--seeds', 0, 1, '--no-alone', '--shard'
    ]
    processes = [
        subprocess.Popen([str(part) for part in [*command, f'{index}/2']], cwd=ROOT, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for index in range(2)
    ]
    outputs = [process.communicate(timeout=900)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    for index, (output, epoch) in enumerate(zip(outputs, (1, 3))):
        assert [line.split(': ')[1] for line in output.splitlines() if line.startswith(f'[sweep {index}/2] Trial ')] == \
            [f'epoch_{epoch}_seed_{seed}' for seed in (0, 1)]
    assert sum('Stage teacher: starting' in output.split('Trial 1 of 2')[0] for output in outputs) == 1
    assert sum('The teacher is being trained in teacher_run by process' in output for output in outputs) == 1
    results = load_results(tmp_path / 'sweep')
    assert {epoch: len(found) for epoch, found in results.by_epoch().items()} == {1: 2, 3: 2}
    assert (tmp_path / 'sweep' / 'sweep.png').exists()
