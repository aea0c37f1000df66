"""Tiny-ImageNet in every layout that it is kept in, and a real part of it."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmpretrain.registry import DATASETS
from PIL import Image

from ckd_mm.errors import ConfigError

from ..conftest import ROOT

ARCHIVE = ROOT.parent / 'shared' / 'data' / 'tiny_imagenet100_jpeg.tar.xz'
WNIDS = ('n01443537', 'n02124075', 'n07753592')  # goldfish, Egyptian cat, banana
VALIDATION = ('n07753592', 'n01443537', 'n02124075', 'n01443537')  # of val_0, val_1, ...


def save(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((64, 64, 3), grey, dtype=np.uint8)).save(path)


def tree(folder: Path, train: str = '{wnid}/images', val: str = 'images', annotations: bool = True,
         wnids: bool = True) -> Path:
    """Two training images of each class and four validation images, grey as 10 x label + number."""
    for label, wnid in enumerate(WNIDS):
        for number in range(2):
            save(folder / 'train' / train.format(wnid=wnid) / f'{wnid}_{number}.JPEG', 10 * label + number)
        (folder / 'train' / wnid / f'{wnid}_boxes.txt').write_text(f'{wnid}_0.JPEG\t0\t0\t63\t63\n')
    lines = []
    for number, wnid in enumerate(VALIDATION):
        save(folder / 'val' / val.format(wnid=wnid) / f'val_{number}.JPEG', 10 * WNIDS.index(wnid) + number)
        lines.append(f'val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n')
    if annotations:
        (folder / 'val' / 'val_annotations.txt').write_text(''.join(lines))
    if wnids:
        (folder / 'wnids.txt').write_text(''.join(
            f'{wnid}\n' for wnid in reversed(WNIDS)))  # the archive does not sort them
    (folder / 'test' / 'images').mkdir(parents=True)
    return folder


def build(folder, split: str, **options):
    return DATASETS.build(
        dict(type='ckd_mm.TinyImageNet', data_root=str(folder), split=split,
             pipeline=[dict(type='LoadImageFromFile')], **options))


def found(dataset) -> list:
    """Sorted (label, grey) of every image, read from its pixels."""
    return sorted((item['gt_label'], round(float(item['img'].mean()))) for item in dataset)


@pytest.mark.parametrize('layout', [
    dict(),  # as the archive unpacks
    dict(val='{wnid}'),
    dict(val='{wnid}/images', annotations=False),
    dict(train='{wnid}', val='{wnid}', annotations=False, wnids=False),
], ids=['original', 'val by class', 'val by class/images', 'two plain folders'])
def test_layouts(layout, tmp_path):
    folder = tree(tmp_path / 'tiny-imagenet-200', **layout)
    train, val = build(folder, 'train'), build(folder, 'val')
    assert train.metainfo['classes'] == val.metainfo['classes'] == WNIDS
    assert found(train) == [(0, 0), (0, 1), (1, 10), (1, 11), (2, 20), (2, 21)]
    assert found(val) == [(0, 1), (0, 3), (1, 12), (2, 20)]


def test_classes_are_known_without_listing_images(tmp_path):
    assert build(tree(tmp_path / 'data'), 'val', lazy_init=True).metainfo['classes'] == WNIDS


def test_an_empty_folder_left_over_from_moving(tmp_path):
    folder = tree(tmp_path / 'data', val='{wnid}')
    (folder / 'val' / 'images').mkdir()
    assert len(build(folder, 'val')) == 4


@pytest.mark.parametrize('broken, message', [
    (lambda folder: (folder / 'train').rename(folder / 'elsewhere'), r'no images in .*train/<wnid>; unpack '
                                                                     r'.* CKD_DATA_ROOT'),
    (lambda folder: (folder / 'val').rename(folder / 'elsewhere'), r'no images in .*val; unpack .* '
                                                                   r'CKD_DATA_ROOT'),
    (lambda folder: (folder / 'train' / WNIDS[1]).rename(folder / 'elsewhere'), r'train has 2 folders, .* '
                                                                                r'the 3 classes in '
                                                                                r'.*wnids.txt'),
], ids=['no train', 'no val', 'a class is missing'])
def test_what_is_missing_is_named(broken, message, tmp_path):
    folder = tree(tmp_path / 'data')
    broken(folder)
    with pytest.raises(ConfigError, match=message):
        build(folder, 'val')


def test_split():
    with pytest.raises(ConfigError, match="split='test' should be one of .'train', 'val'."):
        build('unused', 'test')


@pytest.fixture(scope='module')
def tiny_imagenet100(tmp_path_factory):
    """Every second class of the real thing."""
    root = os.environ.get('CKD_DATA_ROOT')
    if root and (Path(root) / 'tiny_imagenet100' / 'train').is_dir():
        return Path(root) / 'tiny_imagenet100'
    if not ARCHIVE.is_file():
        pytest.skip(f'needs a part of Tiny-ImageNet: neither $CKD_DATA_ROOT/tiny_imagenet100 nor {ARCHIVE} '
                    'is there')
    folder = tmp_path_factory.mktemp('data') / 'tiny_imagenet100'
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder


def test_real_images_through_the_config(tiny_imagenet100):
    """They are read by the config's pipeline, and its mean and standard deviation are theirs."""
    config = Config.fromfile(ROOT / 'configs' / '_base_' / 'datasets' / 'tiny_imagenet_bs128.py')
    datasets = {}
    for loader in (config.train_dataloader, config.val_dataloader):
        dataset = loader.dataset.dataset  # without InMemory
        datasets[dataset.split] = DATASETS.build(dict(dataset, data_root=str(tiny_imagenet100)))
    train, val = datasets['train'], datasets['val']
    assert (len(train), len(val), len(train.CLASSES)) == (20000, 5000, 100)
    assert np.bincount(train.get_gt_labels()).tolist() == [200] * 100 and np.bincount(
        val.get_gt_labels()).tolist() == [50] * 100
    listed = [line.split()[0] for line in (tiny_imagenet100 / 'classes.txt').read_text().splitlines()]
    assert sorted(listed) == list(val.CLASSES) == list(train.CLASSES)
    images = np.stack([val[index]['inputs'].numpy() for index in range(0, 5000, 5)]).astype(np.float64)
    assert images.shape[1:] == (3, 64, 64)
    rgb = images[:, ::-1]  # read as blue, green, red
    statistics = config.data_preprocessor
    assert statistics.to_rgb
    # the statistics are of all 200 classes
    np.testing.assert_allclose(rgb.mean((0, 2, 3)), statistics.mean, atol=3)
    np.testing.assert_allclose(rgb.std((0, 2, 3)), statistics.std, atol=2)
