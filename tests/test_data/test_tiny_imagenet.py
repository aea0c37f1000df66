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


def tree(folder: Path, train: str = '{wnid}/images', val: str = 'images', original: bool = True) -> Path:
    """Two training images of each class and four validation images, grey as 10 x label + number."""
    for label, wnid in enumerate(WNIDS):
        for number in range(2):
            save(folder / 'train' / train.format(wnid=wnid) / f'{wnid}_{number}.JPEG', 10 * label + number)
        (folder / 'train' / wnid / f'{wnid}_boxes.txt').write_text(f'{wnid}_0.JPEG\t0\t0\t63\t63\n')
    lines = []
    for number, wnid in enumerate(VALIDATION):
        save(folder / 'val' / val.format(wnid=wnid) / f'val_{number}.JPEG', 10 * WNIDS.index(wnid) + number)
        lines.append(f'val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n')
    if original:
        (folder / 'val' / 'val_annotations.txt').write_text(''.join(lines))
        (folder / 'wnids.txt').write_text('\n'.join(reversed(WNIDS)))  # the archive does not sort them
    (folder / 'test' / 'images').mkdir(parents=True)
    return folder


def build(folder, split: str, **options):
    return DATASETS.build(dict(type='ckd_mm.TinyImageNet', data_root=str(folder), split=split,
                               pipeline=[dict(type='LoadImageFromFile')], **options))


def found(dataset) -> list:
    """Sorted (label, grey) of every image, read from its pixels."""
    return sorted((item['gt_label'], round(float(item['img'].mean()))) for item in dataset)


@pytest.mark.parametrize('layout', [
    dict(), dict(val='{wnid}'), dict(val='{wnid}/images', original=False),
    dict(train='{wnid}', val='{wnid}', original=False)
], ids=['as the archive unpacks', 'val by class', 'val by class/images', 'two plain folders'])
def test_layouts(layout, tmp_path):
    folder = tree(tmp_path / 'tiny-imagenet-200', **layout)
    (folder / 'val' / 'images').mkdir(exist_ok=True)  # may be left over from moving
    train, val = build(folder, 'train'), build(folder, 'val')
    assert train.metainfo['classes'] == val.metainfo['classes'] == WNIDS
    assert build(folder, 'val', lazy_init=True).metainfo['classes'] == WNIDS
    assert found(train) == [(0, 0), (0, 1), (1, 10), (1, 11), (2, 20), (2, 21)]
    assert found(val) == [(0, 1), (0, 3), (1, 12), (2, 20)]


@pytest.mark.parametrize('missing, message', [
    ('train', r'no images in .*train/<wnid>; unpack .* CKD_DATA_ROOT'),
    ('val', r'no images in .*val; unpack .* CKD_DATA_ROOT'),
    (f'train/{WNIDS[1]}', r'train has 2 folders, .* the 3 classes in .*wnids.txt')])
def test_what_is_missing_is_named(missing, message, tmp_path):
    folder = tree(tmp_path / 'data')
    (folder / missing).rename(folder / 'elsewhere')
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
    train, val = (DATASETS.build(dict(loader.dataset.dataset, data_root=str(tiny_imagenet100)))
                  for loader in (config.train_dataloader, config.val_dataloader))  # without InMemory
    for dataset, count in ((train, 200), (val, 50)):
        assert np.bincount(dataset.get_gt_labels()).tolist() == [count] * 100
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
