"""Runs of several students, resumed and moved: nothing is lost or mixed up, and what cannot be is said before
training."""

import copy
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import EpochBasedTrainLoop, Runner

from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.pipeline.build import open_run
from ckd_mm.pipeline.preflight import Preflight
from ckd_mm.pipeline.runner import CheckpointDistillRunner
from ckd_mm.stages.student import StudentStage
from ckd_mm.teachers import DIHTeacher

from ..conftest import resnet
from ..helpers import assert_same_weights, network

HEADS = dict(out_indices=(0, 1), kind='flatten', train_cfg=dict(max_epochs=1))


@pytest.fixture
def config_of(distil_run):
    """Makes a config without a probe, whose last teacher teaches."""

    def make(**settings):
        return distil_run(**{'selector': 'last', 'probe': None, **settings})

    return make


@pytest.fixture
def given(digits_run, tmp_path):
    """The folder of a teacher that was trained before, of two stages, with three snapshots."""
    folder = tmp_path / 'given'
    Runner.from_cfg(
        digits_run(epochs=3, work_dir=folder, model=resnet(2), experiment_name=f'{tmp_path.name}_given',
                   custom_hooks=[dict(type='ckd_mm.SnapshotHook', interval=1)])).train()
    return folder


def preflight(config, **log) -> None:
    """All that is checked before anything is trained."""
    CheckpointDistillRunner(config).prepare(Preflight(lambda line: None), **log)


def weights(file: Path) -> dict:
    return torch.load(file, weights_only=True)['state_dict']


def parameters(file: Path) -> dict:
    return {
        name: value
        for name, value in weights(file).items() if 'running' not in name and 'num_batches' not in name
    }


def stopped_at(monkeypatch, config, stage, epoch):
    """Run it until a stage has finished this many epochs."""
    run_epoch = EpochBasedTrainLoop.run_epoch

    def dying(loop):
        if Path(loop.runner.work_dir).name == stage and loop.epoch == epoch:
            raise KeyboardInterrupt
        run_epoch(loop)

    with monkeypatch.context() as patch:
        patch.setattr(EpochBasedTrainLoop, 'run_epoch', dying)
        with pytest.raises(KeyboardInterrupt):
            RUNNERS.build(config).train()
    config.resume = True


# ------------------------------------------------------------ where a student starts
def test_a_resumed_run_does_not_forget_where_its_students_start(config_of, tmp_path):
    """`load_from` of the config file, which --resume clears. With a learning rate of nearly 0 all end where
    they start."""
    start = tmp_path / 'start.pth'
    torch.save(dict(state_dict=network(resnet(), 5).state_dict()), start)
    made = config_of(generations=2, student_alone=2, load_from=str(start),
                     **{'optim_wrapper.optimizer.lr': 1e-12})
    made.dump(tmp_path / 'config.py')
    RUNNERS.build(Config.fromfile(tmp_path / 'config.py')).train(until='select')
    again = Config.fromfile(tmp_path / 'config.py')
    again.resume, again.load_from = True, None
    RUNNERS.build(again).train()
    expected = weights(start)
    for name in ('generation_1', 'student', 'student_alone', 'student_alone_2'):
        found = parameters(Path(made.work_dir) / f'{name}.pth')
        assert all(torch.allclose(found[key], expected[key], atol=1e-7) for key in found), name


def test_resume_from_a_path_is_the_students_alone(config_of, tmp_path):
    """A student without a teacher does not begin with what the distilled one has learnt."""
    unbroken = config_of(work_dir=str(tmp_path / 'unbroken'), student_alone=2)
    RUNNERS.build(unbroken).train()
    first = config_of(work_dir=str(tmp_path / 'resumed'))
    RUNNERS.build(first).train()
    again = config_of(work_dir=str(tmp_path / 'resumed'), student_alone=2, resume=True)
    again.load_from = str(tmp_path / 'resumed' / 'student' / 'epoch_1.pth')
    RUNNERS.build(again).train()
    for name in ('student_alone.pth', 'student_alone_2.pth'):
        assert_same_weights(weights(tmp_path / 'unbroken' / name), weights(tmp_path / 'resumed' / name))


def test_resume_from_a_path_needs_the_hint_stage(config_of, monkeypatch):
    from ..test_stages.test_hint import HINT
    config = config_of(hint=dict(distiller=HINT, train_cfg=dict(max_epochs=2)), model=resnet(2))
    stopped_at(monkeypatch, config, 'hint', 1)
    config.load_from = str(Path(config.work_dir) / 'teacher' / 'epoch_3.pth')
    with pytest.raises(ConfigError, match='the stages before it are not finished'):
        RUNNERS.build(config).train()


# ------------------------------------------------------------ again, with more, elsewhere
def test_a_finished_run_whose_students_stopped_distilling_is_resumed(config_of):
    config = config_of(generations=2, **{'distill.stop_epoch': 1})
    first = RUNNERS.build(config).train()
    config.resume = True
    assert RUNNERS.build(config).train()['ensembles'] == first['ensembles']
    assert set(first['ensembles']) == {'generations', 'generations and teacher'}


def test_killed_after_the_stop_all_ensembles_are_measured(config_of, monkeypatch):
    config = config_of(generations=2, **{'distill.stop_epoch': 1})
    stopped_at(monkeypatch, config, 'student', 1)
    assert set(RUNNERS.build(config).train()['ensembles']) == {'generations', 'generations and teacher'}


@pytest.mark.parametrize('before,settings', [(1, {}), (2, {}), (1, dict(generations=2))])
def test_more_students_alone_later(config_of, before, settings):
    """Also where others were measured together before."""
    config = config_of(student_alone=before, **settings)
    RUNNERS.build(config).train()
    config.student_alone, config.resume = before + 1, True
    assert RUNNERS.build(config).train()['ensembles']['students alone']['size'] == before + 1


@pytest.mark.parametrize(
    'changed', [dict(generations=3), dict(assistants=[dict(model=resnet(2))]), dict(heads=HEADS)])
def test_a_stage_before_those_that_are_done_is_refused(config_of, changed):
    """Said at once, not after what was added has been trained."""
    config = config_of(generations=2)
    RUNNERS.build(config).train()
    before = {path for path in Path(config.work_dir).rglob('*.pth')}
    config.update(changed)
    config.resume = True
    with pytest.raises(ConfigError, match='choose another --work-dir'):
        RUNNERS.build(config).train()
    assert {path for path in Path(config.work_dir).rglob('*.pth')} == before


@pytest.mark.parametrize('stage', ['heads', 'generation_1', 'student'])
def test_moved_between_two_stages(config_of, tmp_path, monkeypatch, stage):
    settings = dict(generations=2, heads=dict(HEADS, train_cfg=dict(max_epochs=2)))
    config = config_of(work_dir=str(tmp_path / 'here'), **settings)
    RUNNERS.build(config_of(work_dir=str(tmp_path / 'unbroken'), **settings)).train()
    stopped_at(monkeypatch, config, stage, 1)
    shutil.move(tmp_path / 'here', tmp_path / 'there')
    config.work_dir = str(tmp_path / 'there')
    RUNNERS.build(config).train()
    assert not (tmp_path / 'here').exists()
    assert_same_weights(weights(tmp_path / 'unbroken' / 'student.pth'),
                        weights(tmp_path / 'there' / 'student.pth'))


@pytest.mark.parametrize('is_given', [True, False])
def test_a_removed_teacher_is_named_and_nothing_is_lost(config_of, given, tmp_path, monkeypatch, is_given):
    """Of heads, in the middle of the student's training."""
    folder, config = tmp_path / 'run', config_of(heads=HEADS)
    if is_given:
        folder, config.teacher = given, dict(trajectory=str(given))
    unbroken = copy.deepcopy(config)
    unbroken.work_dir = str(tmp_path / 'unbroken')
    RUNNERS.build(unbroken).train()
    stopped_at(monkeypatch, config, 'student', 1)
    file = (folder / 'snapshots' / 'epoch_3.pth').rename(tmp_path / 'elsewhere.pth')
    with pytest.raises(CkdError, match=r'epoch_3\.pth.* does not exist; restore the file'):
        RUNNERS.build(config).train()
    file.rename(folder / 'snapshots' / 'epoch_3.pth')
    before = (tmp_path / 'run' / 'heads.pth').stat().st_mtime_ns
    RUNNERS.build(config).train()
    assert (tmp_path / 'run' / 'heads.pth').stat().st_mtime_ns == before
    assert_same_weights(weights(tmp_path / 'unbroken' / 'student.pth'),
                        weights(tmp_path / 'run' / 'student.pth'))


def test_heads_past_the_stop_are_never_loaded(config_of, monkeypatch):
    """Promise 5."""
    config = config_of(heads=HEADS, **{'distill.stop_epoch': 1})
    stopped_at(monkeypatch, config, 'student', 1)

    def refuse(*args, **kwargs):
        raise AssertionError('a teacher was built')

    monkeypatch.setattr(DIHTeacher, '__init__', refuse)
    assert RUNNERS.build(config).train()['student']['epoch'] == 2


# ------------------------------------------------------------ who teaches
def test_heads_on_one_of_several_given_snapshots_are_refused(config_of, given):
    config = config_of(heads=HEADS)
    config.teacher, config.selector = dict(trajectory=str(given)), dict(type='even', k=3)
    with pytest.raises(ConfigError, match='heads: they are mounted on one snapshot, but the selector .* '
                                          'chooses 3'):
        RUNNERS.build(config).train()
    assert not list(Path(config.work_dir).rglob('*.pth'))


def test_heads_that_teach_twice_are_refused_before_training(config_of):
    with pytest.raises(ConfigError, match=r'use=\[0, 0\]'):
        preflight(config_of(heads=dict(HEADS, use=[0, 0])))


def test_an_assistant_larger_than_a_given_teacher_is_warned_of(config_of, given):
    config, said = config_of(assistants=[dict(model=resnet(3, channels=8))]), []
    config.teacher = dict(trajectory=str(given))
    preflight(config, warn=said.append)
    assert len(
        said) == 1 and 'assistant 1 has' in said[0] and 'more than the teacher that it learns from' in said[0]


def attention(layer: str) -> dict:
    return dict(
        type='mmrazor.ConfigurableDistiller',
        student_recorders=dict(student=dict(type='ModuleOutputs', source=f'backbone.{layer}')),
        teacher_recorders=dict(teacher=dict(type='ModuleOutputs', source=f'networks.0.backbone.{layer}')),
        distill_losses=dict(loss_at=dict(type='ATLoss', loss_weight=1.0)),
        loss_forward_mappings=dict(loss_at=dict(s_feature=dict(from_student=True, recorder='student'),
                                                t_feature=dict(from_student=False, recorder='teacher'))))


def test_attention_transfer_between_the_later_students_is_checked_too(config_of):
    """The teacher and the assistant fit, the assistant and the student do not: the student has no second
    stage."""
    config = config_of(assistants=[dict(model=resnet(2))])
    config.distill.distiller = attention('layer2')
    with pytest.raises(ConfigError, match="source='backbone.layer2' is no layer of the student"):
        preflight(config)


# ------------------------------------------------------------ on which images
def test_an_assistant_with_images_of_its_own_does_not_see_those_of_the_comparison(config_of):
    loader = dict(dataset=dict(
        pipeline=[dict(type='RandomCrop', crop_size=8, padding=1), dict(type='PackInputs')]))
    config = config_of(assistants=[dict(model=resnet(2), train_dataloader=loader)])
    config.distill.schedule = dict(type='ckd_mm.StopWhenOvertakenHook', held_out=16)
    run, stages = open_run(config)
    assistant, student = (stage.training(run).train_dataloader.dataset for stage in stages
                          if isinstance(stage, StudentStage))
    assert (assistant.part, assistant.held_out, assistant.dataset.pipeline[0].type) == ('rest', 16,
                                                                                        'RandomCrop')
    assert (student.part, student.held_out, student.dataset.pipeline[0].type) == ('rest', 16, 'PackInputs')
