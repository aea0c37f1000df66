"""The agreement of student and teacher on the training images: values, no second forward pass, the stop,
resuming."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from ckd_mm.hooks import TrainAgreementHook
from ckd_mm.losses.cohort_kd_loss import cohort_kd_loss
from ckd_mm.teachers.snapshot_ensemble import find_snapshot

from ..conftest import digits_config, resnet
from ..helpers import assert_same_weights, feature_distiller, labels_of, logged, train, with_statistics
from .conftest import STOP, killed

NETWORK = with_statistics(resnet(2))
HOOK = dict(type='ckd_mm.TrainAgreementHook')
VALIDATION = ('val_dataloader', 'val_cfg', 'val_evaluator')


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Checkpoints of the two teachers."""
    config = digits_config(tmp_path_factory.mktemp('teacher'), epochs=8, model=NETWORK)
    config.default_hooks.checkpoint.max_keep_ckpts = 8
    train(config)
    return [Path(config.work_dir) / f'epoch_{epoch}.pth' for epoch in (2, 8)]


@pytest.fixture
def agreement_run(digits_run, tmp_path, files):
    """A distillation in batches of 24, 24 and 16, of the same images in each epoch. The student begins as one
    of its two teachers and never changes, but in train mode it is normalised by its batch, so that it agrees
    with them sometimes."""

    def make(epochs=2, folder='run', hooks=(), **settings):
        config = digits_run(epochs=epochs, images=64, batch=24, work_dir=tmp_path / folder)
        config.model = dict(type='ckd_mm.CheckpointDistill', student=copy.deepcopy(NETWORK), ce_weight=.3,
                            kd_weight=.7, kd_loss=dict(type='ckd_mm.CohortKDLoss', tau=3.0),
                            cohort=dict(type='ckd_mm.SnapshotEnsemble', snapshots=[*map(str, files)]))
        config.train_dataloader.sampler.shuffle = False
        config.load_from = str(files[0])
        config.merge_from_dict({
            'optim_wrapper.optimizer.lr': 0., 'custom_hooks': [HOOK, *hooks],
            **dict.fromkeys(VALIDATION), **copy.deepcopy(settings)})
        return config

    return make


def hook_of(runner) -> TrainAgreementHook:
    return next(hook for hook in runner.hooks if isinstance(hook, TrainAgreementHook))


def numbers(config) -> list:
    return logged(config.work_dir, 'train/kd_error')


class Count(Hook):
    """Calls of the student's and of the teachers' backbones."""

    def before_train(self, runner) -> None:
        self.student, self.teachers = [], []
        runner.model.student.backbone.register_forward_hook(lambda *_: self.student.append(1))
        for teacher in runner.model.cohort.networks:
            teacher.backbone.register_forward_hook(lambda *_: self.teachers.append(1))


def test_numbers_are_those_of_the_definition(agreement_run, files):
    """Means over images, not over batches."""
    config, count = agreement_run(), Count()
    runner = train(config, count)
    # from the forward passes of training: 3 batches, 2 epochs, 2 teachers, and nothing else
    assert (len(count.student), len(count.teachers)) == (6, 12)
    student = runner.model.student.train()
    teachers = [find_snapshot(file).build() for file in files]
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
    rows = numbers(config)
    assert [row['step'] for row in rows] == [1, 2]
    for row in rows:
        assert row['train/kd_error'] == pytest.approx(100 * differ / 64)
        assert row['train/kd_loss'] == pytest.approx(kd / 64, rel=1e-5)
        assert row['train/ce'] == pytest.approx(ce / 64, rel=1e-5)
    assert hook_of(runner).last == dict(
        epoch=2, **{name: rows[1][f'train/{name}'] for name in ('kd_error', 'kd_loss', 'ce')})
    assert 'train/kd_error' not in runner.message_hub.log_scalars
    model = runner.model  # no forward hook is left behind
    assert not model.kd_loss._forward_hooks and not model.student.head.loss_module._forward_hooks


def test_training_is_the_same_with_it(agreement_run):
    settings = {'optim_wrapper.optimizer.lr': 0.05}
    assert_same_weights(*(
        train(agreement_run(folder=folder, **settings, **changes)).model.state_dict()
        for folder, changes in (('with', {}), ('without', dict(custom_hooks=[])))))


def test_validation_does_not_count(agreement_run, digits_run):
    plain, with_validation, without = digits_run(), agreement_run(folder='validated'), agreement_run()
    with_validation.update({key: plain[key] for key in VALIDATION})
    for config in (with_validation, without):
        train(config)
    found = [[{name: row[name] for name in row if name.startswith('train/')} for row in numbers(config)]
             for config in (with_validation, without)]
    assert found[0] == found[1] and len(found[0]) == 2


def test_nothing_is_logged_after_the_stop(agreement_run):
    config = agreement_run(epochs=3, hooks=[STOP])
    runner = train(config)
    assert [row['step'] for row in numbers(config)] == [1, 2] and hook_of(runner).last['epoch'] == 2


def test_without_a_kd_loss_there_is_nothing_to_log(digits_run, agreement_run):
    """In a run without a teacher, and with a distiller alone."""
    alone = agreement_run(epochs=1)
    alone.model.update(kd_weight=0.0, distiller=feature_distiller(channels=None))
    plain = digits_run(epochs=1, custom_hooks=[HOOK], work_dir=alone.work_dir + '_plain')
    for config, line in ((plain, 'the model is no ckd_mm.CheckpointDistill'),
                         (alone, 'with kd_weight=0 the logits')):
        runner = train(config)
        assert numbers(config) == [] and hook_of(runner).last is None
        assert line in next(Path(config.work_dir).glob('*/*.log')).read_text()


def test_a_resumed_run_counts_each_image_once(agreement_run):
    """Killed inside the second epoch, after two of its three batches, or at the end of the first. ckd_mm's
    loop goes on there, mmengine's starts the epoch again: the means are those of the unbroken run either
    way."""
    settings = {'default_hooks.checkpoint': dict(type='CheckpointHook', by_epoch=False, interval=1)}
    hooks = [dict(type='ckd_mm.StageStateHook')]
    for loop, iterations in (('ckd_mm.ResumableEpochLoop', (3, 5)), ('EpochBasedTrainLoop', (5, ))):
        settings['train_cfg'] = dict(type=loop, max_epochs=2, _delete_=True)
        expected = hook_of(train(agreement_run(folder=loop, hooks=hooks, **settings))).last
        for iteration in iterations:
            config = killed(agreement_run(folder=f'{loop}_{iteration}', hooks=hooks, **settings), iteration)
            assert hook_of(train(config)).last == {name: pytest.approx(value, rel=1e-9)
                                                   for name, value in expected.items()}
            assert {row['step'] for row in numbers(config)} == {1, 2}
