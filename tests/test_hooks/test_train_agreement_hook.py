"""The agreement of student and teacher on the training images: values, no second forward pass, the stop,
resuming."""

import copy
import json
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from ckd_mm.hooks import TrainAgreementHook
from ckd_mm.losses.cohort_kd_loss import cohort_kd_loss
from ckd_mm.teachers.snapshot_ensemble import find_snapshot

from ..conftest import resnet
from ..helpers import labels_of, train, with_statistics

NETWORK = with_statistics(resnet(2))
HOOK = dict(type='ckd_mm.TrainAgreementHook')


@pytest.fixture
def agreement_run(digits_run, tmp_path):
    """A distillation in batches of 24, 24 and 16, of the same images in each epoch. The student begins as one
    of its two teachers and never changes, but in train mode it is normalised by its batch, so that it agrees
    with them sometimes."""
    teacher = digits_run(epochs=8, images=64, work_dir=tmp_path / 'teacher', model=NETWORK)
    teacher.default_hooks.checkpoint.max_keep_ckpts = 8
    train(teacher)
    files = [tmp_path / 'teacher' / f'epoch_{epoch}.pth' for epoch in (2, 8)]

    def make(epochs=2, folder='run', hooks=(), **settings):
        config = digits_run(epochs=epochs, images=64, batch=24, work_dir=tmp_path / folder)
        config.model = dict(type='ckd_mm.CheckpointDistill', student=copy.deepcopy(NETWORK), ce_weight=.3,
                            kd_weight=.7, kd_loss=dict(type='ckd_mm.CohortKDLoss', tau=3.0),
                            cohort=dict(type='ckd_mm.SnapshotEnsemble',
                                        snapshots=[str(file) for file in files]))
        config.train_dataloader.sampler.shuffle = False
        config.load_from = str(files[0])
        config.merge_from_dict({
            'optim_wrapper.optimizer.lr': 0., 'custom_hooks': [HOOK, *hooks], 'val_dataloader': None,
            'val_cfg': None, 'val_evaluator': None, **copy.deepcopy(settings)
        })
        return config

    make.teachers = files
    return make


def hook_of(runner) -> TrainAgreementHook:
    return next(hook for hook in runner.hooks if isinstance(hook, TrainAgreementHook))


def logged(config) -> list:
    rows = [json.loads(line) for file in sorted(Path(config.work_dir).glob('*/vis_data/scalars.json'))
            for line in file.read_text().splitlines()]
    return [row for row in rows if 'train/kd_error' in row]


class Count(Hook):
    """Calls of the student's and of the teachers' backbones."""

    def before_train(self, runner) -> None:
        self.calls = dict(student=0, teachers=0)
        self._count(runner.model.student, 'student')
        for teacher in runner.model.cohort.networks:
            self._count(teacher, 'teachers')

    def _count(self, network, name) -> None:
        network.backbone.register_forward_hook(lambda *_: self.calls.update({name: self.calls[name] + 1}))


def test_numbers_are_those_of_the_definition(agreement_run):
    """Means over images, not over batches."""
    config, count = agreement_run(), Count()
    runner = train(config, count)
    # from the forward passes of training: 3 batches, 2 epochs, 2 teachers, and nothing else
    assert count.calls == dict(student=6, teachers=12)
    student = runner.model.student.train()
    teachers = [find_snapshot(file).build() for file in agreement_run.teachers]
    images, differ, kd, ce = 0, 0, 0., 0.
    with torch.no_grad():
        for data in runner.train_dataloader:
            labels, data = labels_of(data), runner.model.data_preprocessor(data, False)
            logits = student(data['inputs'], mode='tensor')
            answers = torch.stack([teacher(data['inputs'], mode='tensor') for teacher in teachers])
            images += len(labels)
            differ += (logits.argmax(1) != answers.softmax(2).mean(0).argmax(1)).sum().item()
            kd += len(labels) * cohort_kd_loss(logits, answers, 3.0).item()
            ce -= logits.log_softmax(1)[torch.arange(len(labels)), labels].sum().item()
    assert images == 64 and 0 < differ < 64
    rows = logged(config)
    assert [row['step'] for row in rows] == [1, 2]
    for row in rows:
        assert row['train/kd_error'] == pytest.approx(100 * differ / 64)
        assert row['train/kd_loss'] == pytest.approx(kd / 64, rel=1e-5)
        assert row['train/ce'] == pytest.approx(ce / 64, rel=1e-5)
    assert hook_of(runner).last == dict(
        epoch=2, **{name: rows[1][f'train/{name}']
                    for name in ('kd_error', 'kd_loss', 'ce')})
    assert 'train/kd_error' not in runner.message_hub.log_scalars
    # no listener is left behind
    model = runner.model
    assert not model.kd_loss._forward_hooks and not model.student.head.loss_module._forward_hooks


def test_training_is_the_same_with_it(agreement_run):
    settings = {'optim_wrapper.optimizer.lr': 0.05}
    with_hook = train(agreement_run(folder='with', **settings)).model.state_dict()
    without = train(agreement_run(folder='without', **dict(settings, custom_hooks=[]))).model.state_dict()
    assert list(with_hook) == list(without)
    assert all(torch.equal(with_hook[key], without[key]) for key in without)


def test_validation_does_not_count(agreement_run, digits_run):
    plain, config = digits_run(), agreement_run(folder='validated')
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        config[key] = plain[key]
    train(config)
    without = agreement_run(folder='not_validated')
    train(without)
    drop = ('train/kd_error', 'train/kd_loss', 'train/ce')
    assert [[row[name] for name in drop] for row in logged(config)] == [[row[name] for name in drop]
                                                                        for row in logged(without)]


def test_nothing_is_logged_after_the_stop(agreement_run):
    config = agreement_run(epochs=3, hooks=[dict(type='ckd_mm.StopDistillationHook', stop_epoch=2)])
    runner = train(config)
    assert [row['step'] for row in logged(config)] == [1, 2] and hook_of(runner).last['epoch'] == 2


def test_a_run_without_a_teacher_has_nothing_to_log(digits_run):
    config = digits_run(epochs=1, custom_hooks=[HOOK])
    runner = train(config)
    assert logged(config) == [] and hook_of(runner).last is None


def test_a_distiller_without_the_kd_loss_has_nothing_to_log_and_is_told(agreement_run):
    record = dict(type='ModuleOutputs', source='backbone.layer1')
    config = agreement_run(epochs=1)
    config.model.update(
        kd_weight=0.0, distiller=dict(
            type='mmrazor.ConfigurableDistiller', student_recorders=dict(map=record),
            teacher_recorders=dict(map=dict(record, source='networks.1.backbone.layer1')),
            distill_losses=dict(loss_at=dict(type='ATLoss')),
            loss_forward_mappings=dict(loss_at=dict(s_feature=dict(recorder='map', from_student=True),
                                                    t_feature=dict(recorder='map', from_student=False)))))
    runner = train(config)
    assert logged(config) == [] and hook_of(runner).last is None
    assert 'with kd_weight=0 the logits' in next(Path(config.work_dir).glob('*/*.log')).read_text()


class Killed(Exception):
    pass


class Kill(Hook):
    priority = 'LOWEST'

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.iter + 1 == self.iteration:
            raise Killed


@pytest.mark.parametrize(('loop', 'iteration'), [
    ('ckd_mm.ResumableEpochLoop', 5), ('EpochBasedTrainLoop', 5), ('ckd_mm.ResumableEpochLoop', 3)])
def test_a_resumed_run_counts_each_image_once(agreement_run, loop, iteration):
    """Killed inside the second epoch, after two of its three batches, or at the end of the first. ckd_mm's
    loop goes on there, mmengine's starts the epoch again: the means are those of the unbroken run either
    way."""
    settings = {'train_cfg': dict(type=loop, max_epochs=2, _delete_=True), 'default_hooks.checkpoint': dict(
        type='CheckpointHook', by_epoch=False, interval=1)}
    hooks = [dict(type='ckd_mm.StageStateHook')]
    whole = agreement_run(folder='whole', hooks=hooks, **settings)
    expected = hook_of(train(whole)).last
    config = agreement_run(folder='killed', hooks=hooks, **settings)
    with pytest.raises(Killed):
        train(config, Kill(iteration))
    config.resume, config.load_from = True, None
    assert hook_of(train(config)).last == {
        name: pytest.approx(value, rel=1e-9)
        for name, value in expected.items()
    }
    assert {row['step'] for row in logged(config)} == {1, 2}


def test_student_and_teachers_of_one_weight_agree(agreement_run):
    """In eval mode a network agrees with itself; in train mode it is normalised by the batch, and need
    not."""
    config = agreement_run(folder='same')
    config.model.cohort.snapshots = config.model.cohort.snapshots[:1]
    config.model.student.backbone.norm_eval = True
    last = hook_of(train(config)).last
    assert last['kd_error'] == 0 and abs(last['kd_loss']) < 1e-4 and last['ce'] > 0
