"""Against mmpretrain's own transforms, image by image."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from mmpretrain.registry import TRANSFORMS
from scipy import stats

from ckd_mm.data import batched_transforms
from ckd_mm.data.batched_transforms import BothMaps, batched

HEIGHT, WIDTH = 4, 5


def images(count: int = 1, seed: int = 0) -> np.ndarray:
    """(N, H, W, 3), as mmpretrain's transforms take them."""
    return np.random.default_rng(seed).integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.copy()).permute(0, 3, 1, 2).contiguous()


def ours(transforms, pixels: np.ndarray, draw) -> np.ndarray:
    result, draw = tensor(pixels), np.array(draw)
    for transform in transforms:
        result = transform(result, draw[:, :transform.draws])
        assert tuple(result.shape[1:]) == transform.shape and result.dtype == torch.uint8
        draw = draw[:, transform.draws:]
    assert draw.shape[1] == 0
    return result.permute(0, 2, 3, 1).numpy()


def both(*steps):
    """mmpretrain's and ours."""
    real = [TRANSFORMS.build(step) for step in steps]
    return real, batched(real, (3, HEIGHT, WIDTH))


# ------------------------------------------------------------ the same pixels
CROPS = [
    dict(crop_size=3), dict(crop_size=(2, 4)), dict(crop_size=(4, 5), padding=1),
    dict(crop_size=4, padding=(1, 2)), dict(crop_size=(3, 2), padding=(1, 0, 2, 3), pad_val=(9, 8, 7)),
    dict(crop_size=4, padding=2, pad_val=77), dict(crop_size=(4, 5), padding=1,
         padding_mode='reflect'),  # which mmpretrain leaves out of account: a constant
    dict(crop_size=7, pad_if_needed=True), dict(crop_size=(6, 5), pad_if_needed=True, pad_val=(1, 2, 3)),
    dict(crop_size=6, pad_if_needed=True, padding_mode='edge'),
    dict(crop_size=6, pad_if_needed=True, padding_mode='reflect'),
    dict(crop_size=7, pad_if_needed=True, padding_mode='symmetric'),
    dict(crop_size=8, padding=1, pad_if_needed=True, padding_mode='edge'), dict(crop_size=9, padding=1),
    dict(crop_size=(2, 9)), dict(crop_size=(4, 5)), ]


@pytest.mark.parametrize('largest', [2**22, 0])
@pytest.mark.parametrize('settings', CROPS, ids=str)
def test_random_crop_at_every_place(settings, largest, monkeypatch):
    monkeypatch.setattr(batched_transforms, 'LARGEST_MAPS', largest)
    (real, ), (crop, ) = both(dict(type='RandomCrop', **settings))
    assert (crop.padded is None) == (largest > 0)
    asked = []
    monkeypatch.setattr(np.random, 'randint', lambda low, high: asked.append(high) or low)
    real(dict(img=images()[0]))
    places = [range(count) for count in asked or (1, 1)]
    assert crop.places == tuple(map(len, places))
    for top, left in itertools.product(*places):
        numbers = [left, top]
        monkeypatch.setattr(np.random, 'randint', lambda low, high, numbers=numbers: numbers.pop())
        expected = real(dict(img=images()[0]))['img']
        for within in (0., 0.5, 1 - 2**-20):  # of all numbers that mean this place
            draw = [[(top + within) / len(places[0]), (left + within) / len(places[1])]]
            assert (ours([crop], images(), draw)[0] == expected).all(), (top, left)


def test_large_crops_have_no_maps():
    """Of 33 * 33 places of 224 * 224 numbers: 437 MB."""
    crop, flip = batched([
        TRANSFORMS.build(dict(type='RandomCrop', crop_size=224)),
        TRANSFORMS.build(dict(type='RandomFlip', prob=0.5))
    ], (1, 256, 256))
    assert sum(numbers.untyped_storage().nbytes() for numbers in (crop.maps, crop.padded, flip.maps)) < 2**21
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 1, 256, 256), dtype=np.uint8))
    seen = flip(crop(pixels, np.array([[0.999, 0.], [0.5, 0.25]])), np.array([[0.9], [0.1]]))
    assert torch.equal(seen[0], pixels[0, :, 32:, :224]) and torch.equal(seen[1], pixels[1, :, 16:240,
                                                                                         8:232].flip(2))


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_random_flip(direction, monkeypatch):
    (real, ), (flip, ) = both(dict(type='RandomFlip', prob=0.25, direction=direction))
    for draw, choice in ((0., direction), (0.249, direction), (0.25, None), (0.999, None)):
        monkeypatch.setattr(real, '_choose_direction', lambda choice=choice: choice)
        assert (ours([flip], images(), [[draw]])[0] == real(dict(img=images()[0]))['img']).all()


def test_directions_with_probabilities_of_their_own():
    _, (flip, ) = both(dict(type='RandomFlip', prob=[0.5, 0.125], direction=['vertical', 'horizontal']))
    pixels = images(4)
    expected = [pixels[0, ::-1], pixels[1, ::-1], pixels[2, :, ::-1], pixels[3]]
    assert (ours([flip], pixels, [[0.], [0.4999], [0.5], [0.625]]) == np.stack(expected)).all()


# ------------------------------------------------------------ as often
def outcomes(pixels) -> Counter:
    return Counter(image.tobytes() for image in pixels)


def assert_as_often(left: Counter, right: Counter, fewest: int = 20) -> None:
    """Two-sample chi-squared test; outcomes that are rare in both make one bin."""
    common = [key for key in left | right if left[key] + right[key] >= fewest]
    table = np.array([[seen[key] for key in common] + [sum(seen.values()) - sum(seen[key] for key in common)]
                      for seen in (left, right)])
    table = table[:, table.sum(0) > 0]
    assert table.shape[1] > 1
    assert stats.chi2_contingency(table).pvalue > 0.005


@pytest.mark.parametrize(
    'steps', [
        [dict(type='RandomCrop', crop_size=(4, 5), padding=1)],
        [dict(type='RandomFlip', prob=0.3, direction='horizontal')],
        [dict(type='RandomFlip', prob=0.6, direction=['horizontal', 'vertical', 'diagonal'])],
        [dict(type='RandomFlip', prob=[0.2, 0.3], direction=['horizontal', 'diagonal'])],
        [dict(type='RandomCrop', crop_size=(4, 5), padding=1), dict(type='RandomFlip', prob=0.5)], ], ids=str)
def test_frequencies(steps):
    real, transforms = both(*steps)
    image, count = images()[0], 6000
    np.random.seed(0)
    expected = []
    for _ in range(count):
        item = dict(img=image.copy())
        for transform in real:
            item = transform(item)
        expected.append(np.ascontiguousarray(item['img']))
    draws = np.random.default_rng(0).random((count, sum(transform.draws for transform in transforms)))
    seen = ours(transforms, np.repeat(image[None], count, 0), draws)
    assert_as_often(outcomes(expected), outcomes(np.ascontiguousarray(seen)))


# ------------------------------------------------------------ two maps as one
@pytest.mark.parametrize('steps', [
    [
        dict(type='RandomCrop', crop_size=(4, 5), padding=1, pad_val=(9, 8, 7)),
        dict(type='RandomFlip', prob=0.5)
    ], [
        dict(type='RandomFlip', prob=0.6, direction=['vertical', 'diagonal']),
        dict(type='RandomCrop', crop_size=(3, 6), padding=1)
    ], [
        dict(type='RandomCrop', crop_size=3), dict(type='RandomFlip', prob=0.5),
        dict(type='RandomCrop', crop_size=3, padding=2)
    ], ], ids=str)
def test_two_maps_make_one(steps):
    real, together = both(*steps)
    assert len(together) == 1 and isinstance(together[0], BothMaps)
    apart, shape = [], (3, HEIGHT, WIDTH)
    for transform in real:
        apart += batched([transform], shape)
        shape = apart[-1].shape
    draws = np.random.default_rng(3).random((500, together[0].draws))
    assert (ours(together, images(500), draws) == ours(apart, images(500), draws)).all()


def test_two_colours_of_padding_stay_apart():
    steps = [
        dict(type='RandomCrop', crop_size=(4, 5), padding=1, pad_val=value)
        for value in ((1, 1, 1), (2, 2, 2))
    ]
    _, transforms = both(*steps)
    assert len(transforms) == 2
    seen = ours(transforms, np.full((1, HEIGHT, WIDTH, 3), 9, np.uint8), [[0., 0., 0., 0.]])
    assert seen[0, 0, 0].tolist() == [2, 2, 2] and seen[0, 1, 1].tolist() == [
        1, 1, 1
    ] and seen[0, 2, 2].tolist() == [9, 9, 9]
