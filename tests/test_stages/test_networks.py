"""The networks from teacher to student: who teaches whom, seeds, and runs that die on the way."""

from pathlib import Path

import pytest
from mmengine.registry import RUNNERS

from ckd_mm.errors import SnapshotError
from ckd_mm.files import sha256_of_file
from ckd_mm.pipeline.preflight import Preflight
from ckd_mm.pipeline.runner import CheckpointDistillRunner
from ckd_mm.pipeline.stage_runner import StageRunner
from ckd_mm.stages.student import StudentStage

from ..conftest import resnet
from ..helpers import assert_same_weights, opened, weights_of
from .conftest import accuracy, logged, logits_of, settings_of


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


def test_an_assistant_larger_than_its_teacher_is_warned_of(distil_run):
    warnings = []
    config = distil_run(selector='last', probe=None, assistants=[dict(model=resnet(3, channels=8))])
    CheckpointDistillRunner(config).prepare(Preflight(lambda line: None), warn=warnings.append)
    assert len(warnings) == 1 and warnings[0].startswith('assistant 1 has')
    assert 'more than the teacher that it learns from' in warnings[0]


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
    losses = [row['loss_kd'] for row in logged(work_dir, 'student') if 'loss_kd' in row]
    assert losses and min(losses) > 0


def test_resumed_past_the_stop_without_its_teacher(distil_run, monkeypatch):
    """The missing file is named."""
    config = distil_run(selector='last', probe=None, rehearsal=False, **{'distill.stop_epoch': 1})
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(StudentStage, 'finish', lambda *_: (_ for _ in ()).throw(Died))
        RUNNERS.build(config).train()
    (Path(config.work_dir) / 'snapshots' / 'epoch_3.pth').unlink()
    config.resume = True
    with pytest.raises(SnapshotError, match=r'epoch_3.pth \(epoch 3\) does not exist'):
        RUNNERS.build(config).train()


STAGES = ['heads', 'generation_1', 'student']


@pytest.mark.parametrize('stage', STAGES)
def test_resumed_at_any_link(shared_run, distil_run, monkeypatch, stage):
    """A run that dies in the second epoch of a stage and is resumed ends like an unbroken one, and repeats
    nothing."""
    settings = dict(selector='last', probe=None, generations=2,
                    heads=dict(out_indices=(0, 1), train_cfg=dict(max_epochs=2)))
    unbroken, _ = shared_run('unbroken', **settings)
    call, started = StageRunner.call_hook, []

    def dies(self, name, **arguments):
        call(self, name, **arguments)
        here = Path(self.work_dir).name
        if name == 'before_train':
            started.append((here, self.epoch))
        if name == 'after_train_iter' and here == stage and self.epoch == 1 and 'dead' not in started:
            started.append('dead')
            raise Died

    monkeypatch.setattr(StageRunner, 'call_hook', dies)
    with pytest.raises(Died):
        RUNNERS.build(distil_run(**settings)).train()
    config = distil_run(**settings, resume=True)
    RUNNERS.build(config).train()
    left = STAGES[STAGES.index(stage):]
    assert started[started.index('dead') + 1:] == [(stage, 1)] + [(name, 0) for name in left[1:]]
    for name in STAGES:
        assert_same_weights(weights_of(unbroken / f'{name}.pth'),
                            weights_of(Path(config.work_dir) / f'{name}.pth'))
