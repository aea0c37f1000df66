"""Real sweeps on a few digits: 3 epochs of teacher, 2 of students."""

import copy
import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ckd_mm.errors import ConfigError
from ckd_mm.pipeline.resumable_loop import ResumableEpochLoop
from ckd_mm.sweep import Sweep, Trial, collect, load_results, make_search, plan_trials
from ckd_mm.sweep.pipeline_access import snapshot_epochs
from ckd_mm.trajectory import Trajectory

from ..conftest import ROOT, run_tool
from ..helpers import assert_same_weights


def student(folder):
    return torch.load(folder / 'student.pth', weights_only=True)['state_dict']


def test_trials_are_ordinary_runs(config, digits_run, distil_run, tmp_path, run_commands):
    """Each trial by hand; the undistilled one by mmpretrain alone."""
    assert run_commands(Sweep(config(), plan_trials([7], [1, 3]))) == [
        'teacher_run', 'alone_seed_7', 'epoch_1_seed_7', 'epoch_3_seed_7'
    ]
    folder = tmp_path / 'sweep'
    said = collect(folder)
    assert 'epoch 3' in said and 'not finished' not in said and (folder / 'sweep.png').exists()
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

    plain = Runner.from_cfg(digits_run(work_dir=tmp_path / 'plain', randomness=dict(seed=7)))
    plain = plain.train().state_dict()
    alone = student(folder / 'trials' / 'alone_seed_7')
    assert all(torch.equal(alone[key], plain[key]) for key in plain)
    assert results.alone['cost']['total_epochs'] == 2


def test_extended_and_not_repeated(config, tmp_path, run_commands):
    folder = tmp_path / 'sweep'
    run_commands(Sweep(config(), plan_trials([0], [1], alone=False)))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob('*.pth')}
    assert list(Sweep(config(), plan_trials([0], [1], alone=False)).write(['train']).values()) == [[], []]
    assert [(folder / f'{name}.txt').read_text() for name in ('teachers', 'students')] == ['', '']
    more = Sweep(config(), plan_trials([0, 1], [2], alone=False))
    more.write(['train'])
    assert collect(folder).splitlines()[-2] == \
        '2 of 3 trials are not finished: epoch_2_seed_0, epoch_2_seed_1'
    assert run_commands(more) == ['epoch_2_seed_0', 'epoch_2_seed_1']
    assert all(path.stat().st_mtime_ns == time
               for path, time in before.items()), 'the teacher and finished trials should be kept'
    assert 'not finished' not in collect(folder)
    found = load_results(folder).by_epoch()
    assert {epoch: len(accuracies) for epoch, accuracies in found.items()} == {1: 1, 2: 2}

    for seeds in ([0], [5]):  # of another seed: the same mean would hold both
        with pytest.raises(ConfigError, match=r'trial epoch_._seed_0 was finished with other settings: '
                                              r'distill.tau was 4.0, now 2.0'):
            Sweep(config(distill=dict(tau=2.0)), plan_trials(seeds, [1]))
    with pytest.raises(ConfigError, match=r'stage teacher was finished with other settings: '
                                          r'optim_wrapper.optimizer.lr was 0.05, now 0.5'):
        Sweep(config(teacher=dict(optim_wrapper=dict(optimizer=dict(lr=0.5)))), plan_trials([5], [1]))
    with pytest.raises(ConfigError, match='sweep belongs to a sweep; choose another --work-dir'):
        make_search(config(), {'distill.tau': [1.0]}, [0])
    trained = json.loads((folder / 'teacher_run' / 'trajectory.json').read_text())
    trained['snapshots'][0]['sha256'] = 'other'
    (folder / 'teacher_run' / 'trajectory.json').write_text(json.dumps(trained))
    with pytest.raises(ConfigError, match='trial epoch_1_seed_0 is finished, but its teacher of epoch 1 was '
                                          'another'):
        Sweep(config(), plan_trials([0], [2], alone=False))


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
    assert list(lists.values()) == [[f'python train.py {teacher} --until teacher --resume'], [
                                        f'python train.py {file.parents[1]}/{name}/{name}.py --resume'
                                        for name in ('epoch_1_seed_1', 'epoch_3_seed_0')
                                    ]]


def test_a_killed_trial_goes_on(config, tmp_path, monkeypatch, tool, run_commands):
    """From its last checkpoint; the others are left as they are."""
    whole = config()
    whole.work_dir = str(tmp_path / 'unbroken')
    run_commands(Sweep(whole, [Trial('epoch', 0, epoch=2)]))
    run_iter = ResumableEpochLoop.run_iter

    class Killed(BaseException):
        pass

    def killed(self, idx, data_batch):
        if self.runner.work_dir.endswith('trials/epoch_2_seed_0/student') and self.runner.iter == 5:
            raise Killed  # in its second epoch of four iterations
        run_iter(self, idx, data_batch)

    sweep = Sweep(config(), plan_trials([0], [3, 2], alone=False))
    with monkeypatch.context() as patch:
        patch.setattr(ResumableEpochLoop, 'run_iter', killed)
        with pytest.raises(Killed):
            run_commands(sweep)
    folder = tmp_path / 'sweep' / 'trials' / 'epoch_2_seed_0'
    first_epoch = (folder / 'student' / 'epoch_1.pth').stat().st_mtime_ns
    assert '1 of 2 trials are not finished: epoch_2_seed_0' in collect(tmp_path / 'sweep')
    with pytest.raises(ConfigError, match='trial epoch_2_seed_0 was begun with other settings: distill.tau '
                                          'was 4.0'):
        Sweep(config(distill=dict(tau=2.0)), plan_trials([0], [2]))
    assert run_commands(Sweep(config(), plan_trials([0], [3, 2], alone=False))) == ['epoch_2_seed_0']
    assert (folder / 'student' / 'epoch_1.pth').stat().st_mtime_ns == first_epoch
    assert_same_weights(student(folder), student(tmp_path / 'unbroken' / 'trials' / 'epoch_2_seed_0'))


def test_a_schedule_that_compares_on_the_images_of_the_probe(config, tmp_path, run_commands):
    run_commands(Sweep(config(distill=dict(schedule=dict(type='ckd_mm.StopWhenOvertakenHook'))),
                       plan_trials([0], [3])))
    for name in ('epoch_3_seed_0', 'alone_seed_0'):  # which are compared: on the same images
        stages = json.loads((tmp_path / 'sweep' / 'trials' / name / 'stages.json').read_text())
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
    ([Trial('epoch', 0, epoch=1, overrides={'distill.tauu': 1})], {}, "trial epoch_1_tauu_1_seed_0: distill: "
                                                                      "unknown key 'tauu'")])
def test_found_before_anything_is_written(config, tmp_path, trials, settings, message):
    with pytest.raises(ConfigError, match=message):
        Sweep(config(**settings), trials)
    assert not (tmp_path / 'sweep').exists()


def test_epochs_that_the_trained_teacher_did_not_leave(config, run_commands):
    made = config(teacher=dict(snapshots=dict(epochs=[1, 3])))
    assert snapshot_epochs(made) == [1, 3]
    run_commands(Sweep(made, plan_trials([0], [3], alone=False)))
    with pytest.raises(ConfigError, match=r'leaves no snapshot after epochs \[2\]; choose among \[1, 3\]'):
        Sweep(made, plan_trials([0], [2]))


def test_teachers_of_the_students_network_have_seeds_of_their_own(config, tmp_path, run_commands):
    made = config()
    made.teacher.model = made.model
    seed = made.randomness.seed
    run_commands(Sweep(made, plan_trials([seed], (), ['full'], [2], alone=False)))
    seeds = [
        Trajectory.open(tmp_path / 'sweep' / name).info['seed'] for name in ('teacher_run', 'teacher_run_2')
    ]
    assert seeds == [1000 + seed, 1001 + seed]


def test_ensembles_train_as_many_teachers_as_they_need(config, tmp_path, run_commands):
    sweep = Sweep(config(), plan_trials([0], (), ['snapshot', 'full'], [1, 2], alone=False))
    assert run_commands(sweep)[:2] == ['teacher_run', 'teacher_run_2']
    assert 'ensembles.png' in collect(tmp_path / 'sweep')
    results = load_results(tmp_path / 'sweep')
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


def test_the_commands(config, tmp_path, tool):
    """As printed, in a folder whose name has to be quoted."""
    made, folder = config(), tmp_path / "a sweep's"
    made.custom_imports = dict(imports=['ckd_mm'], allow_failed_imports=False)
    made.dump(tmp_path / 'config.py')
    call = ['sweep.py', tmp_path / 'config.py', '--work-dir', folder, '--seeds', 0, '--no-alone', '--epochs']
    status, out, _ = tool(*call, 1)
    assert status == 0 and 'students.txt: 1 to run' in out
    command = next(line.strip() for line in out.splitlines() if 'xargs' in line)
    assert '--gres=gpu:1 tools/slurm_sweep.sh' in out and command.count('xargs') == 2
    run_tool('sh', '-c', command)
    status, out, _ = tool('sweep.py', '--collect', folder)
    assert status == 0 and 'not finished' not in out and list(load_results(folder).by_epoch()) == [1]
    status, out, _ = tool(*call, 1)
    assert status == 0 and 'xargs' not in out and 'students.txt: 0 to run' in out
    call[3] = tmp_path / 'other'
    status, out, _ = tool(*call, 2, '--trajectory', folder / 'teacher_run')
    assert status == 0 and 'teachers.txt: 0 to run' in out and 'students.txt: 1 to run' in out


@pytest.mark.parametrize('arguments, status, message', [
    (['--search', 'distill.tau=1,2', '--ensembles', 'full'], 1, '--search and --ensembles cannot be given '
                                                                'together'),
    (['--collect', 'W'], 2, 'give a CONFIG to make a sweep of, or --collect W')])
def test_not_a_sweep(arguments, status, message, config, tmp_path, tool):
    config().dump(tmp_path / 'config.py')
    found, _, error = tool('sweep.py', tmp_path / 'config.py', *arguments)
    assert found == status and message in error
    found, _, error = tool('sweep.py', '--collect', tmp_path)
    assert found == 1 and 'sweep.json does not exist' in error


def test_a_task_of_a_slurm_array_runs_its_line(tmp_path):
    (tmp_path / 'list').write_text("echo first\necho 'the  second'\n")
    script = ['bash', ROOT / 'tools' / 'slurm_sweep.sh', tmp_path / 'list']
    assert run_tool(*script, SLURM_ARRAY_TASK_ID='1').stdout == 'the  second\n'
    done = run_tool(*script, check=False, SLURM_ARRAY_TASK_ID='2')
    assert done.returncode == 1 and 'has no line 3' in done.stderr
