"""Runs of several students, resumed and moved: nothing is lost or mixed up, and what cannot be is said before
training."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS

from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.pipeline.build import open_run
from ckd_mm.stages.student import StudentStage
from ckd_mm.teachers import DIHTeacher

from ..conftest import distil_config, resnet
from ..helpers import (
    TEACHER,
    assert_same_weights,
    feature_distiller,
    network,
    stopped_at,
    trajectory,
    weights_of,
)

HEADS = dict(out_indices=(0, 1), kind='flatten', train_cfg=dict(max_epochs=1))
WITHOUT_PROBE = dict(selector='last', probe=None)


@pytest.fixture
def config_of(distil_run):
    """Makes a config without a probe, whose last teacher teaches."""
    return lambda **settings: distil_run(**{**WITHOUT_PROBE, **settings})


@pytest.fixture
def given(tmp_path):
    """The folder of a teacher that exists, with three snapshots."""
    return trajectory(tmp_path / 'given', model=TEACHER).folder


@pytest.fixture(scope='module')
def generations(tmp_path_factory):
    """The config of a finished run of two generations, stopped and resumed past the end of distillation, and
    its summary."""
    config = distil_config(tmp_path_factory.mktemp('generations') / 'run', generations=2,
                           **WITHOUT_PROBE, **{'distill.stop_epoch': 1})
    stopped_at(config, 'student', 1)
    return config, RUNNERS.build(copy.deepcopy(config)).train()


# ------------------------------------------------------------ where a student starts
def test_a_resumed_run_does_not_forget_where_its_students_start(config_of, tmp_path):
    """`load_from` of the config file, which --resume clears. With a learning rate of nearly 0 all end where
    they start."""
    start = tmp_path / 'start.pth'
    torch.save(dict(state_dict=network(resnet(), 5).state_dict()), start)
    made = config_of(generations=2, student_alone=2, load_from=str(start),
                     **{'optim_wrapper.optimizer.lr': 1e-12})
    made.dump(tmp_path / 'config.py')
    RUNNERS.build(Config.fromfile(tmp_path / 'config.py', format_python_code=False)).train(until='select')
    again = Config.fromfile(tmp_path / 'config.py', format_python_code=False)
    again.resume, again.load_from = True, None
    RUNNERS.build(again).train()
    expected = network(resnet(), 5)
    for name in ('generation_1', 'student', 'student_alone', 'student_alone_2'):
        found = weights_of(Path(made.work_dir) / f'{name}.pth')
        assert all(torch.allclose(found[key], value, atol=1e-7)
                   for key, value in expected.named_parameters()), name


def test_resume_from_a_path_is_the_students_alone(config_of, tmp_path):
    """A student without a teacher does not begin with what the distilled one has learnt."""
    RUNNERS.build(config_of(work_dir=tmp_path / 'unbroken', student_alone=2)).train()
    RUNNERS.build(config_of(work_dir=tmp_path / 'resumed', student_alone=2)).train(until='student')
    again = config_of(work_dir=tmp_path / 'resumed', student_alone=2, resume=True)
    again.load_from = str(tmp_path / 'resumed' / 'student' / 'epoch_1.pth')
    RUNNERS.build(again).train()
    for name in ('student_alone.pth', 'student_alone_2.pth'):
        assert_same_weights(*(weights_of(tmp_path / run / name) for run in ('unbroken', 'resumed')))


def test_resume_from_a_path_needs_the_hint_stage(config_of):
    config = config_of(model=resnet(2), hint=dict(
        distiller=feature_distiller(channels=(4, 4)), train_cfg=dict(max_epochs=2)))
    stopped_at(config, 'hint', 1)
    config.load_from = str(Path(config.work_dir) / 'teacher' / 'epoch_3.pth')
    with pytest.raises(ConfigError, match='the stages before it are not finished'):
        RUNNERS.build(config).train()


# ------------------------------------------------------------ again, with more, elsewhere
def test_a_finished_run_whose_students_stopped_distilling_is_resumed(generations):
    config, summary = generations
    assert set(summary['ensembles']) == {'generations', 'generations and teacher'}
    assert RUNNERS.build(copy.deepcopy(config)).train()['ensembles'] == summary['ensembles']


@pytest.mark.parametrize('changed', [dict(generations=3), dict(assistants=[dict(model=resnet(2))]),
                                     dict(heads=HEADS)])
def test_a_stage_before_those_that_are_done_is_refused(generations, changed):
    """Said at once, not after what was added has been trained."""
    config = copy.deepcopy(generations[0])
    config.update(changed)
    before = set(Path(config.work_dir).rglob('*.pth'))
    with pytest.raises(ConfigError, match='choose another --work-dir'):
        RUNNERS.build(config).train()
    assert set(Path(config.work_dir).rglob('*.pth')) == before


def test_more_students_alone_later(generations, config_of):
    """Also where others were measured together before."""
    for config, counts in ((config_of(), (1, 2, 3)), (copy.deepcopy(generations[0]), (1, 2))):
        for count in counts:
            config.student_alone = count
            ensembles = RUNNERS.build(copy.deepcopy(config)).train().get('ensembles', {})
            assert ensembles.get('students alone', dict(size=1))['size'] == count
            config.resume = True


@pytest.mark.parametrize('is_given', [True, False])
def test_a_removed_or_damaged_teacher_is_named_and_nothing_is_lost(config_of, given, tmp_path, is_given):
    """Of heads, in the middle of the student's training."""
    folder, config = tmp_path / 'run', config_of(heads=HEADS)
    if is_given:
        folder, config.teacher = given, dict(trajectory=str(given))
    stopped_at(config, 'student', 1)
    file = (folder / 'snapshots' / 'epoch_3.pth').rename(tmp_path / 'elsewhere.pth')
    with pytest.raises(CkdError, match=r'epoch_3\.pth.* does not exist; restore the file'):
        RUNNERS.build(config).train()
    (folder / 'snapshots' / 'epoch_3.pth').write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CkdError, match=r'epoch_3\.pth.* is damaged'):
        RUNNERS.build(config).train()
    file.replace(folder / 'snapshots' / 'epoch_3.pth')
    before = (tmp_path / 'run' / 'heads.pth').stat().st_mtime_ns
    assert RUNNERS.build(config).train()['student']['epoch'] == 2
    assert (tmp_path / 'run' / 'heads.pth').stat().st_mtime_ns == before


def test_heads_past_the_stop_are_never_loaded(config_of, monkeypatch):
    """Promise 5."""
    config = config_of(heads=HEADS, **{'distill.stop_epoch': 1})
    stopped_at(config, 'student', 1)

    def refuse(*args, **kwargs):
        raise AssertionError('a teacher was built')

    monkeypatch.setattr(DIHTeacher, '__init__', refuse)
    assert RUNNERS.build(config).train()['student']['epoch'] == 2


# ------------------------------------------------------------ before training
def test_an_assistant_with_images_of_its_own_does_not_see_those_of_the_comparison(config_of):
    pipeline = [dict(type='RandomCrop', crop_size=8, padding=1), dict(type='PackInputs')]
    config = config_of(assistants=[
        dict(model=resnet(2), train_dataloader=dict(dataset=dict(pipeline=pipeline)))])
    config.distill.schedule = dict(type='ckd_mm.StopWhenOvertakenHook', held_out=16)
    run, stages = open_run(config)
    parts = [stage.training(run).train_dataloader.dataset for stage in stages
             if isinstance(stage, StudentStage)]
    assert [(part.part, part.held_out, part.dataset.pipeline[0].type)
            for part in parts] == [('rest', 16, 'RandomCrop'), ('rest', 16, 'PackInputs')]
