"""Students that see other images than their teachers: unlabelled ones, of another size, of other classes."""

import copy
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import RUNNERS

from ckd_mm.errors import CkdError

from ..conftest import resnet
from ..helpers import (
    DIGIT_NAMES,
    DIGITS,
    TEACHER,
    accuracy,
    assert_same_weights,
    digits,
    network,
    on_files,
    trajectory,
    weights_of,
    with_statistics,
)
from ..test_classifier_heads import deit

OTHERS = ('seven', *DIGITS[:5], 'eight')  # of a teacher


@pytest.fixture
def taught(distil_run, tmp_path):
    """A run whose teacher exists: its config with these settings of teacher and distillation."""

    def make(name='run', teacher=None, model=TEACHER, classes=DIGITS, **distill) -> Config:
        folder = tmp_path / f'teacher_{len(classes)}'
        if not folder.exists():
            trajectory(folder, (1, ), model=model, classes=classes)
        config = distil_run(work_dir=tmp_path / name, selector='last', probe=None)
        config.teacher = dict(trajectory=str(folder), **(teacher or {}))
        config.distill.update(distill)
        return config

    return make


def refused(config, message: str) -> None:
    with pytest.raises(CkdError, match=message):
        RUNNERS.build(config).train()


# ---------------------------------------------------------------- unlabelled images
@pytest.fixture
def unlabelled(taught, tmp_path):
    """On digits in files, the training images without labels."""

    def make(name='run', **settings) -> Config:
        config = on_files(taught(name, classes=DIGIT_NAMES, **settings), tmp_path / 'images')
        config.train_dataloader.dataset.update(with_label=False)
        return config

    return make


def test_without_ce_weight_no_label_is_asked_for(unlabelled):
    """The student is that of the same images with labels, which weigh nothing."""
    students = []
    for name in ('without', 'with'):
        config = unlabelled(name, ce_weight=0.0, kd_weight=1.0)
        config.train_dataloader.dataset.with_label = name == 'with'
        summary = RUNNERS.build(config).train()
        students.append(weights_of(Path(config.work_dir, 'student.pth')))
        assert summary['student']['accuracy_top1'] is not None
    assert_same_weights(*students)


@pytest.mark.parametrize('settings, message', [
    (dict(), r'train_dataloader.dataset: image 0 has no label, which the student learns from with '
     r'distill.ce_weight=0.1; 0 needs none'),
    (dict(ce_weight=0.0, stop_epoch=1), 'has no label, .* since StopDistillationHook changes the weights'),
    (dict(ce_weight=0.0, tau=None, loss=dict(type='ckd_mm.DecoupledKDLoss')),
     'has no label, which ckd_mm.DecoupledKDLoss compares with')])
def test_who_still_needs_labels(unlabelled, settings, message):
    refused(unlabelled(**settings), message)


def test_a_baseline_and_a_class_token_need_labels(unlabelled):
    config = unlabelled(ce_weight=0.0)
    config.student_alone = True
    refused(config, 'image 0 has no label, which the student alone learns from')
    config = unlabelled(ce_weight=0.0)
    config.model = deit()
    refused(config, 'distill.ce_weight=0: .* the class token learns from labels alone; give a ce_weight')


# ---------------------------------------------------------------- another size
def test_a_teacher_of_another_size_is_trained_and_given_at_its_own(distil_run, taught):
    """A transformer without interpolation takes no other size."""
    mixer = dict(type='ImageClassifier', backbone=dict(
        type='MlpMixer', img_size=16, patch_size=8, arch=dict(
            embed_dims=8, num_layers=1, tokens_mlp_dims=4, channels_mlp_dims=8)),
        neck=dict(type='GlobalAveragePooling', dim=1),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=8))
    trained = distil_run(selector='last', probe=None)
    trained.teacher.update(input_size=16)
    trained.teacher.model = copy.deepcopy(mixer)
    first = RUNNERS.build(trained).train()
    given = taught('given', teacher=dict(input_size=16), model=with_statistics(mixer))
    given.teacher.trajectory = trained.work_dir
    second = RUNNERS.build(given).train()
    assert first['teacher']['metrics'] == second['teacher']['metrics']
    assert_same_weights(*(weights_of(Path(config.work_dir, 'student.pth')) for config in (trained, given)))


def test_a_given_teacher_of_a_fixed_size(taught):
    mixer = with_statistics(dict(type='ImageClassifier', backbone=dict(
        type='MlpMixer', img_size=16, patch_size=8, arch=dict(
            embed_dims=8, num_layers=1, tokens_mlp_dims=4, channels_mlp_dims=8)),
        neck=dict(type='GlobalAveragePooling', dim=1),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=8)))
    refused(taught(model=mixer), r'cannot answer for images \(3, 8, 8\): .* say teacher.input_size')
    config = taught('sized', teacher=dict(input_size=16), model=mixer)
    summary = RUNNERS.build(config).train()
    with torch.no_grad():
        inputs = torch.nn.functional.interpolate(digits()[0], (16, 16), mode='bilinear', antialias=True)
        assert summary['teacher']['accuracy_top1'] == accuracy(network(mixer, 1)(inputs, mode='tensor'))
    config.teacher.input_size, config.resume = 32, True
    refused(config, 'input_size was 16, now 32')


# ---------------------------------------------------------------- other classes
@pytest.mark.parametrize('cached', [False, True], ids=['steps', 'cached'])
def test_classes_of_the_same_names_teach(taught, cached):
    """In another order, with one that the student lacks and without some that it has."""
    model = with_statistics(resnet(2, classes=7), num_classes=7)
    config = taught(teacher=dict(class_map={'7': 'seven'}), model=model, classes=OTHERS,
                    **(dict(cache=dict(views=1)) if cached else {}))
    config.val_evaluator = config.test_evaluator = [dict(type='Accuracy', topk=(1, )),
                                                    dict(type='ckd_mm.KDMetric')]
    summary = RUNNERS.build(config).train()
    with torch.no_grad():
        own = network(model, 1)(digits()[0], mode='tensor')
    scores = torch.full((100, 10), -float('inf'))
    scores[:, [0, 1, 2, 3, 4, 7]] = own[:, [1, 2, 3, 4, 5, 0]]
    assert summary['teacher']['accuracy_top1'] == accuracy(scores)
    assert 0 <= summary['student']['metrics']['kd/error'] <= 100
    stages = json.loads(Path(config.work_dir, 'stages.json').read_text())
    assert cached == ('targets' in str(stages))


def test_the_same_classes_in_another_order_teach_the_same(taught, tmp_path):
    """A permuted teacher, with a map, gives the student of the plain one, bit for bit."""
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0)).tolist()
    built = network(TEACHER, 1)
    moved = {key: value[order] if key.startswith('head.') else value
             for key, value in built.state_dict().items()}
    meta = dict(dataset_meta=dict(classes=[DIGITS[index] for index in order]))
    torch.save(dict(state_dict=moved, meta=meta), tmp_path / 'moved.pth')
    plain, other = taught('plain'), taught('other')
    other.teacher = dict(checkpoint=str(tmp_path / 'moved.pth'), model=TEACHER, class_map=True)
    first, second = (RUNNERS.build(config).train() for config in (plain, other))
    assert first['teacher']['metrics'] == second['teacher']['metrics']
    students = [weights_of(Path(config.work_dir, 'student.pth')) for config in (plain, other)]
    for key, value in students[0].items():
        torch.testing.assert_close(students[1][key], value)
    other.teacher.class_map = False
    other.work_dir += '_refused'
    refused(other, "class 0 is '.' in .*moved.pth.* and '0' in train_dataloader.dataset")


@pytest.mark.parametrize('change, message', [
    (dict(teacher=dict(class_map='yes')), "teacher.class_map='yes' should be"),
    (dict(teacher=dict(class_map={'11': '1'})), "'11' is no class of train_dataloader.dataset"),
    (dict(teacher=dict(input_size=0)), 'teacher.input_size=0 should be a whole number, at least 1'),
    (dict(teacher_dtype='half'), r"distill.teacher_dtype='half' should be one of \('bf16', 'fp16'\)")])
def test_bad_settings_are_named(taught, change, message):
    refused(taught(**change), message)


def test_what_goes_without_a_class_map(taught, distil_run):
    for change, message in [(dict(probe=dict(held_out=16)), 'the information plane compares'),
                            (dict(heads=dict(out_indices=[0])), 'heads are mounted on a teacher as it is'),
                            (dict(teacher=ConfigDict(distil_run().teacher, class_map=True)),
                             'is for teachers that exist')]:
        config = taught(teacher=dict(class_map=True))
        for key, value in change.items():
            config[key] = value
        refused(config, f'teacher.class_map=True.*{message}')


def test_off_loaded_teachers_teach_the_same(taught):
    configs = [taught('here'), taught('there', off_load=True)]
    for config in configs:
        RUNNERS.build(config).train()
    assert_same_weights(*(weights_of(Path(config.work_dir, 'student.pth')) for config in configs))


def test_teachers_in_bfloat16(taught):
    config = taught(teacher_dtype='bf16', kd_weight=1.0)
    summary = RUNNERS.build(config).train()
    assert summary['student']['accuracy_top1'] is not None
    config.distill.teacher_dtype, config.resume = None, True
    config.work_dir += '_full'
    config.resume = False
    RUNNERS.build(config).train()
    half, full = (weights_of(Path(folder, 'student.pth'))
                  for folder in (config.work_dir.removesuffix('_full'), config.work_dir))
    assert not torch.equal(half['head.fc.weight'], full['head.fc.weight'])
    torch.testing.assert_close(half['head.fc.weight'], full['head.fc.weight'], rtol=0.1, atol=0.02)
