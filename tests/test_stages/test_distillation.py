"""What ``distill.schedule`` makes of the stages of a run."""

from pathlib import Path

import pytest
from mmengine.registry import RUNNERS
from mmpretrain.registry import DATASETS

from ckd_mm.errors import ConfigError
from ckd_mm.hooks import stop_when_overtaken_hook
from ckd_mm.pipeline.build import open_run
from ckd_mm.report import Report, results_table
from ckd_mm.teachers import SnapshotEnsemble

from ..helpers import logged, opened, stopped_at, trajectory

PROGRESSIVE, OVERTAKEN = dict(type='ckd_mm.ProgressiveTeacherHook'), dict(type='ckd_mm.StopWhenOvertakenHook')
ANNEAL = dict(type='ckd_mm.AnnealDistillationHook', begin=0, end=2)


@pytest.fixture
def scheduled(distil_run):
    """Makes a config of the whole method: 3 epochs of teacher with a snapshot each, 3 of student."""

    def make(schedule, selector='last', probe=None, distill=None, **settings):
        config = distil_run(train_cfg=dict(max_epochs=3), **settings)
        config.selector, config.probe = selector, probe
        config.distill = dict(tau=4.0, ce_weight=0.25, kd_weight=0.5, schedule=schedule, **(distill or {}))
        return config

    return make


def stage_config(config, name='student'):
    run, stages = opened(config)
    return stages[name].config(run)


def rows(config) -> list:
    """What was logged of the student's training, the last row of each epoch."""
    return logged(Path(config.work_dir) / 'student', 'loss')


@pytest.fixture
def taught(monkeypatch):
    """Epochs of the snapshots that taught each training step."""
    steps, logits = [], SnapshotEnsemble.member_logits

    def counted(cohort, inputs):
        if len(inputs) == 16:  # a training step; evaluations have batches of 100
            steps.append([snapshot.epoch for snapshot in cohort.snapshots])
        return logits(cohort, inputs)

    monkeypatch.setattr(SnapshotEnsemble, 'member_logits', counted)
    return steps


def test_progressive(scheduled, taught):
    """The chosen snapshots one after another, also in a run in two parts."""
    config = scheduled(PROGRESSIVE, dict(type='even', k=3))
    stopped_at(config, 'student', 2)
    summary = RUNNERS.build(config).train()
    assert summary['selection']['epochs'] == [1, 2, 3]
    assert summary['cohort']['accuracy_top1'] is None, 'an ensemble of them never taught'
    table = results_table(Report.load(config.work_dir))
    assert 'in turn epochs 1, 2, 3' in table and 'schedule: ProgressiveTeacherHook()' in table
    assert taught == [[1]] * 4 + [[2]] * 4 + [[3]] * 4


def test_annealed(scheduled, taught):
    """The log shows the weight of the last iteration of each epoch, of 4 iterations, 8 on the way."""
    config = scheduled(dict(ANNEAL, ce_end_value=1.0))
    RUNNERS.build(config).train()
    assert [row['kd_weight'] for row in rows(config)] == [0.5 - 0.5 * 3 / 8, 0.5 - 0.5 * 7 / 8, 0.0]
    assert taught == [[3]] * 8


def test_stop_epoch_is_short_for_the_hook(scheduled):
    hook = dict(type='StopDistillationHook', stop_epoch=2)
    short, long = (stage_config(config).custom_hooks
                   for config in (scheduled([], distill=dict(stop_epoch=2)), scheduled(hook)))
    assert short == long and dict(hook, type='ckd_mm.StopDistillationHook') in short


def test_standardised_logits_reach_the_loss(scheduled):
    config = stage_config(scheduled([], distill=dict(standardize=True)))
    assert config.model.kd_loss == dict(type='ckd_mm.CohortKDLoss', tau=4.0, standardize=True)


# ---------------------------------------------------------------- until the student overtakes
def pixels(dataset) -> set:
    built = DATASETS.build(dataset)
    return {built[index]['inputs'].numpy().tobytes() for index in range(len(built))}


@pytest.mark.parametrize('probe, held_out', [(dict(held_out=16, seed=5), 16),
                                             (dict(probe_split='test', held_out=8), 8), (None, 6)])
def test_nobody_is_trained_on_the_images_of_the_comparison(scheduled, probe, held_out):
    """Of 64: those of the probe, whatever it looks at itself; without a probe a tenth."""
    run, stages = opened(scheduled(OVERTAKEN, probe=probe, student_snapshots=dict(interval=1),
                                   student_alone=True))
    configs = [stages[name].config(run) for name in ('student', 'teacher', 'student_alone')]
    hook = next(hook for hook in configs[0].custom_hooks if hook['type'] == 'ckd_mm.StopWhenOvertakenHook')
    compared, everything = pixels(hook['dataset']), pixels(run.student_training().train_dataloader.dataset)
    assert len(compared) == held_out
    record = dict(held_out=16, seed=5) if held_out == 16 else dict(held_out=8 if probe else 0.1, seed=0)
    for config in configs:
        assert pixels(config.train_dataloader.dataset) == everything - compared
        found = DATASETS.build(config.train_dataloader.dataset).held_out
        assert {key: found[key] for key in record} == record


def test_without_a_probe_the_schedule_says_what_is_held_out(scheduled):
    config = scheduled(dict(OVERTAKEN, held_out=20, seed=3, margin=2.0))
    hook = stage_config(config).custom_hooks[1]
    assert (hook['margin'], hook['seed']) == (2.0, 3)
    assert (hook['dataset']['held_out'], hook['dataset']['seed']) == (20, 3)
    assert stage_config(config, 'teacher').train_dataloader.dataset.held_out == 20


def test_overtaken_and_resumed(scheduled, tmp_path, monkeypatch, taught):
    """The teacher is overtaken after one epoch (accuracies put in). Killed after two."""
    given = trajectory(tmp_path / 'given', held_out=dict(held_out=0.25, seed=0))
    monkeypatch.setattr(stop_when_overtaken_hook, 'top1_accuracy', lambda loader, preprocessor, network, **_:
                        10.0 if isinstance(network, SnapshotEnsemble) else 20.0)
    config = scheduled(dict(OVERTAKEN, held_out=0.25))
    config.teacher = dict(trajectory=str(given.folder))
    stopped_at(config, 'student', 2)
    taught.clear()
    assert RUNNERS.build(config).train()['student']['epoch'] == 3
    assert taught == []
    assert [row['kd_weight'] for row in rows(config)] == [0.5, 0.0, 0.0]
    assert rows(config)[0]['loss_kd'] > 0 and all('loss_kd' not in row for row in rows(config)[1:])


def test_a_given_teacher_that_knows_the_images_is_refused(scheduled, tmp_path):
    config = scheduled(OVERTAKEN)
    config.teacher = dict(trajectory=str(trajectory(tmp_path / 'given').folder))
    with pytest.raises(ConfigError, match=r"needs a teacher that was trained without \{'held_out': 0.1, "
                                          r"'seed': 0, .*\}, and .*given says None"):
        RUNNERS.build(config).train()
    assert not list(Path(config.work_dir).rglob('*.pth'))


# ---------------------------------------------------------------- what cannot be
EVEN_2 = dict(selector=dict(type='even', k=2))


@pytest.mark.parametrize('schedule, settings, message', [
    (dict(type='anneal', begin=0, end=2), {},
     r"distill\.schedule: type='anneal' should be one of ckd_mm\.AnnealDistillationHook, "),
    ('progressive', {},
     r"distill\.schedule='progressive' should be a list or a dict: .* ckd_mm\.ProgressiveTeacherHook"),
    (dict(ANNEAL, begin=2), {}, 'begin=2 should be before end=2'),
    (dict(ANNEAL, end=4), {}, 'end=4 is never reached: the run has 3 epochs'),
    (ANNEAL, dict(distill=dict(stop_epoch=1)),
     'StopDistillationHook and AnnealDistillationHook would each stop distillation'),
    (ANNEAL, dict(distill=dict(ce_weight_after_stop=1.0)),
     'ce_weight_after_stop=1.0: what the cross-entropy weighs after annealing'),
    (PROGRESSIVE, {}, 'one snapshot cannot take turns'),
    (PROGRESSIVE, dict(selector=dict(type='epoch', epochs=[1, 5])),
     r'the trajectory has no snapshot at \[5\]'),
    ([PROGRESSIVE, dict(ANNEAL, end=1)], EVEN_2, '2 snapshots cannot take turns in 1 epochs'),
    (PROGRESSIVE, dict(EVEN_2, distill=dict(teacher_weights=[1, 2])), 'take the weights out'),
    (dict(OVERTAKEN, dataset={}), {}, "compares on the held-out images of `probe`; say 'dataset' there"),
    (dict(OVERTAKEN, held_out=0.2), dict(probe={}), "say 'held_out' there"),
    (dict(OVERTAKEN, held_out=1.5), {}, r'held_out=1\.5 should be a fraction'),
    ([], dict(custom_hooks=[ANNEAL]),
     r'custom_hooks: AnnealDistillationHook belongs into distill\.schedule')])
def test_bad_schedules_are_named_before_the_teacher_is_trained(scheduled, schedule, settings, message):
    config = scheduled(schedule, **settings)
    with pytest.raises(ConfigError, match=message):
        RUNNERS.build(config).train()
    assert not list(Path(config.work_dir).rglob('*.pth'))


def test_one_snapshot_or_several_trajectories_are_not_a_walk(scheduled):
    for selector in ('information_plane', 'calibration', 'short_probe'):  # which choose one, after hours
        with pytest.raises(ConfigError, match='one snapshot cannot take turns'):
            open_run(scheduled(PROGRESSIVE, selector, dict(held_out=16)))
    config = scheduled(PROGRESSIVE)
    config.teacher = dict(trajectory=['one', 'two'])
    with pytest.raises(ConfigError, match='walks along one trajectory, but there are 2'):
        open_run(config)
