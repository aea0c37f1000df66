"""The networks from teacher to student: who teaches whom, seeds, and runs that die on the way."""

from pathlib import Path

import pytest
from mmengine.registry import RUNNERS

from ckd_mm.errors import SnapshotError
from ckd_mm.files import sha256_of_file
from ckd_mm.pipeline.stage_runner import StageRunner
from ckd_mm.stages.student import StudentStage

from ..conftest import resnet
from ..helpers import (
    accuracy,
    assert_same_weights,
    logged,
    logits_of,
    opened,
    prepared,
    trajectory,
    weights_of,
)
from .conftest import settings_of


class Died(Exception):
    """The process did."""


def test_assistants_come_between(run):
    assistant = dict(model=resnet(2, channels=3), train_cfg=dict(max_epochs=1))
    work_dir, summary = run(assistants=[assistant])
    assert list(summary['seconds']) == ['teacher', 'select', 'assistant_1', 'student']
    link, = summary['links']
    assert (link['name'], link['epoch']) == ('assistant 1', 1)
    assert link['accuracy_top1'] == accuracy(logits_of(work_dir / 'assistant_1.pth', assistant['model']))
    assert settings_of(work_dir, 'student')['teachers.0.sha256'] == sha256_of_file(
        work_dir / 'assistant_1.pth')
    assert 'more than the' not in (work_dir / 'ckd_mm.log').read_text()


def test_an_assistant_at_chance_is_warned_of(run):
    untrained = dict(model=resnet(2, channels=3), optim_wrapper=dict(optimizer=dict(lr=0.0)),
                     train_cfg=dict(max_epochs=1))
    work_dir, _ = run(assistants=[untrained])
    assert 'assistant_1.pth (epoch 1) is at chance' in (work_dir / 'ckd_mm.log').read_text()


@pytest.mark.parametrize('is_given', [False, True])
def test_an_assistant_larger_than_its_teacher_is_warned_of(distil_run, tmp_path, is_given):
    config = distil_run(selector='last', probe=None, assistants=[dict(model=resnet(3, channels=8))])
    if is_given:
        config.teacher = dict(trajectory=str(trajectory(tmp_path / 'given').folder))
    _, warnings = prepared(config)
    warning, = (line for line in warnings if 'at chance' not in line)  # the given teacher is not trained
    assert warning.startswith('assistant 1 has') and 'more than the teacher that it learns from' in warning


def test_networks_of_one_kind_begin_with_weights_of_their_own(distil_run):
    config = distil_run(selector='last', probe=None, generations=2, student_alone=True)
    config.teacher.model = config.model
    config.assistants = [dict(model=config.model), dict(model=config.model),
                         dict(model=config.model, randomness=dict(seed=77))]
    run, stages = opened(config)
    seeds = {name: stage.config(run).randomness.seed for name, stage in stages.items()
             if hasattr(stage, 'config')}
    assert seeds == dict(teacher=1003, assistant_1=103, assistant_2=203, assistant_3=77, generation_1=4,
                         student=5, student_alone=3)


def test_another_loss_of_logits(run):
    loss = dict(type='ckd_mm.DecoupledKDLoss', tau=4.0)
    work_dir, _ = run(distill=dict(tau=None, loss=loss, ce_weight=1.0, kd_weight=1.0, reduction='sum'))
    settings = settings_of(work_dir, 'student')
    assert settings['model.kd_loss.type'] == 'ckd_mm.DecoupledKDLoss' and settings['model.reduction'] == 'sum'
    losses = [row['loss_kd'] for row in logged(work_dir / 'student', 'loss_kd')]
    assert losses and min(losses) > 0


def test_resumed_past_the_stop_without_its_teacher(distil_run, monkeypatch):
    """The missing file is named, before anything is trained."""
    config = distil_run(selector='last', probe=None, rehearsal=False, **{'distill.stop_epoch': 1})
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(StudentStage, 'finish', lambda *_: (_ for _ in ()).throw(Died))
        RUNNERS.build(config).train()
    (Path(config.work_dir) / 'snapshots' / 'epoch_3.pth').unlink()
    config.resume = True
    with pytest.raises(SnapshotError, match=r'epoch_3.pth \(epoch 3\) does not exist'):
        prepared(config)
    (Path(config.work_dir) / 'trajectory.json').unlink()
    with pytest.raises(SnapshotError, match=rf'is empty: .*trajectory.py repair {config.work_dir}$'):
        prepared(config)


STAGES = ['heads', 'generation_1', 'student']


def test_dead_at_every_link_moved_and_resumed(distil_run, tmp_path, monkeypatch):
    """A run that dies in the second epoch of each stage and goes on elsewhere ends like an unbroken one, and
    repeats nothing."""

    def config(name, **settings):
        heads = dict(out_indices=(0, 1), kind='flatten', train_cfg=dict(max_epochs=2))
        return distil_run(selector='last', probe=None, generations=2, heads=heads, work_dir=tmp_path / name,
                          **settings)

    RUNNERS.build(config('unbroken')).train()
    call, started, deaths = StageRunner.call_hook, [], [*STAGES]

    def dies(self, name, **arguments):
        call(self, name, **arguments)
        stage = Path(self.work_dir).name
        if name == 'before_train':
            started.append((stage, self.epoch))
        if name == 'after_train_iter' and self.epoch == 1 and stage in deaths:
            deaths.remove(stage)
            raise Died

    monkeypatch.setattr(StageRunner, 'call_hook', dies)
    for number in range(len(STAGES)):
        with pytest.raises(Died):
            RUNNERS.build(config(f'place_{number}', resume=number > 0)).train()
        (tmp_path / f'place_{number}').rename(tmp_path / f'place_{number + 1}')
    RUNNERS.build(config('place_3', resume=True)).train()
    assert [path.name for path in tmp_path.glob('place_*')] == ['place_3']
    assert started == [('teacher', 0)] + [(stage, epoch) for stage in STAGES for epoch in (0, 1)]
    for name in STAGES:
        assert_same_weights(*(weights_of(tmp_path / run / f'{name}.pth') for run in ('unbroken', 'place_3')))
