"""A label means the same in all data sets of a run, or nothing is trained."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from mmengine.registry import RUNNERS
from mmpretrain.registry import DATASETS
from PIL import Image

from ckd_mm.data import decoded
from ckd_mm.errors import ConfigError
from ckd_mm.pipeline.build import open_run
from ckd_mm.pipeline.data_sets import check_labels

from ..helpers import DIGIT_NAMES, digit_files, on_files, prepared, stopped_at


@pytest.fixture
def config(distil_run, tmp_path):
    return on_files(distil_run(selector='last', probe=None), tmp_path)


def refused(config, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RUNNERS.build(copy.deepcopy(config)).train()
    assert not list(Path(config.work_dir).rglob('*.pth')), 'nothing should be trained'


def checked(config) -> str:
    return check_labels(open_run(copy.deepcopy(config))[0])


def wrap(config, key: str, kind: str) -> None:
    config[key].dataset = dict(type=kind, dataset=config[key].dataset)


@pytest.mark.parametrize('wrapper', [None, 'ckd_mm.InMemory', 'ckd_mm.Views'])
@pytest.mark.parametrize('key', ['train_dataloader', 'val_dataloader'])
def test_a_renamed_folder(config, tmp_path, monkeypatch, wrapper, key):
    """b_one comes last as k_one, and every label from 1 on is shifted."""
    if wrapper is not None:
        wrap(config, key, wrapper)
    assert checked(config).startswith('train_dataloader 64 images, val_dataloader 64 images')
    monkeypatch.setattr(decoded, '_decoded', {})  # as in a new process
    folder = tmp_path / ('train' if key == 'train_dataloader' else 'test')
    (folder / 'b_one').rename(folder / 'k_one')
    ours, theirs = ('c_two', 'b_one') if key == 'train_dataloader' else ('b_one', 'c_two')
    refused(config, f"class 1 is '{ours}' in train_dataloader.dataset and '{theirs}' in "
                    r'val_dataloader.dataset \(other classes\), .*: name folders alike')


def test_a_folder_that_is_missing_where_the_test_set_or_the_teachers_images_lie(config, tmp_path):
    other = digit_files(tmp_path / 'other')
    (tmp_path / 'other' / 'a_zero').rename(tmp_path / 'a_zero')
    config.teacher.train_dataloader = dict(dataset=other)
    refused(config, "class 0 is 'a_zero' in train_dataloader.dataset and 'b_one' in "
                    r'teacher.train_dataloader.dataset \(10 and 9 classes\)')
    del config.teacher['train_dataloader']
    config.test_dataloader.dataset.data_root = str(tmp_path / 'other')
    refused(config, "and 'b_one' in test_dataloader.dataset")


def test_a_stray_folder_in_all_data_sets(config, tmp_path):
    for split in ('train', 'test'):
        (tmp_path / split / '.ipynb_checkpoints').mkdir()
    refused(config, r'train_dataloader.dataset has 11 classes and model.head.num_classes=10. The class '
                    r"folder\(s\) '.ipynb_checkpoints' hold no images: .*Remove what is no class")


def test_fewer_classes_than_the_head_are_warned_of(config, capsys):
    config.model.head.num_classes = 1000
    checked(config)
    assert 'has 10 classes and model.head.num_classes=1000: a teacher' in capsys.readouterr().out


def test_what_classes_are_called_shifts_no_label_and_hides_no_shift(config, tmp_path):
    """mmpretrain numbers folders in alphabetical order, whatever `classes` says."""
    config.val_dataloader.dataset.classes = list('0123456789')
    checked(config)
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.dataset.classes = list(DIGIT_NAMES)
    (tmp_path / 'test' / 'b_one').rename(tmp_path / 'test' / 'k_one')
    refused(config, "class 1 is 'b_one' in train_dataloader.dataset and 'c_two' in val_dataloader.dataset")


def test_folders_that_were_renamed_after_the_teacher_was_trained(config, tmp_path):
    stopped_at(config, 'student', 1)
    for split in ('train', 'test'):
        (tmp_path / split / 'b_one').rename(tmp_path / split / 'k_one')
    with pytest.raises(ConfigError, match="class 1 is 'b_one' in .*trajectory.json and 'c_two' in "
                                          r'train_dataloader.dataset'):
        RUNNERS.build(config).train()


def listed(folder: Path, labels: list) -> dict:
    """Config of a data set without class names: images and their labels in a file."""
    folder.mkdir(exist_ok=True)
    Image.new('RGB', (8, 8)).save(folder / 'image.png')
    (folder / 'list.txt').write_text(''.join(f'image.png {label}\n' for label in labels))
    return dict(type='CustomDataset', data_root=str(folder), ann_file='list.txt',
                pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])


def test_labels_without_names(config, tmp_path):
    config.train_dataloader.dataset = listed(tmp_path / 'listed', [*range(10)] * 2)
    checked(config)
    for labels, found in (([0, 1, 10], 10), ([0, 1, -1], -1)):
        config.train_dataloader.dataset = listed(tmp_path / 'listed', labels)
        refused(config, rf'train_dataloader.dataset: image 2 has label \[{found}\], but labels go from 0 '
                        r'to 9 \(model.head.num_classes=10\)')


def test_images_of_several_labels(config, tmp_path):
    """Are an ordinary training, but nothing that can be distilled."""
    listed(tmp_path / 'images', [])
    (tmp_path / 'labels.json').write_text(
        '{"metainfo": {}, "data_list": [{"img_path": "image.png", "gt_label": [1, 3]}]}')
    config.train_dataloader.dataset = dict(
        type='MultiLabelDataset', data_root=str(tmp_path), ann_file='labels.json',
        data_prefix='images', pipeline=config.train_dataloader.dataset.pipeline)
    refused(config, r'train_dataloader.dataset: image 0 has the labels \[1, 3\]: networks are compared here '
                    r'by the softmax of their logits')
    config.update(dict.fromkeys(('teacher', 'selector', 'probe', 'distill')))
    checked(config)


@DATASETS.register_module()
class NoBaseDataset(torch.utils.data.Dataset):
    """A data set of somebody's own, which has only what torch and mmengine ask for."""

    def __init__(self, **settings) -> None:
        self.images = DATASETS.build(dict(type='ckd_mm.Digits', **settings))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return self.images[index]


def test_a_data_set_that_does_not_tell_its_labels(distil_run):
    config = distil_run(selector='last', probe=None)
    config.train_dataloader.dataset.type = config.val_dataloader.dataset.type = 'NoBaseDataset'
    prepared(config)


def test_data_sets_of_checks_can_be_sent_to_workers(config):
    """Which are spawned on some platforms."""
    run = open_run(config)[0]
    dataset = run.data_set(config.train_dataloader.dataset, 'train_dataloader.dataset')
    assert copy.deepcopy(dataset) is dataset
    sent = pickle.loads(pickle.dumps(dataset))
    assert sent is not dataset and sent[3]['inputs'].equal(dataset[3]['inputs'])
