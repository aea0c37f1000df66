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
from ckd_mm.errors import ConfigError

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


class Numbers:
    """Stands in for numpy's generator: every number is made of the next of those given."""

    def __init__(self, draws) -> None:
        self.draws = iter(draws)

    def rand(self):
        return next(self.draws)

    def uniform(self, low=0., high=1.):
        return low + (high - low) * next(self.draws)

    def randint(self, low, high):
        return low + int(next(self.draws) * (high - low))


@pytest.mark.parametrize('step, count', [
    (dict(
        type='RandomErasing', erase_prob=0.7, min_area_ratio=0.1, max_area_ratio=0.3,
        aspect_range=(0.7, 1.4)), 5), (dict(type='RandomErasing', erase_prob=1., min_area_ratio=0.1,
          max_area_ratio=0.3, aspect_range=0.8, fill_color=(123.67, 116.3, 0)), 5),
    (dict(type='Cutout', shape=2, prob=0.6), 3),
    (dict(type='Cutout', shape=(1, 3), pad_val=(3, 2, 1), prob=1.), 3),
    (dict(type='Cutout', shape=(7, 2), pad_val=0, prob=1.), 3), ], ids=str)
def test_holes_of_the_same_numbers(step, count, monkeypatch):
    (real, ), (hole, ) = both(step)
    pixels, draws = images(200), np.random.default_rng(1).random((200, count))
    expected, changed = [], 0
    for image, draw in zip(pixels, draws):
        numbers = Numbers(draw)
        for name in ('rand', 'uniform', 'randint'):
            monkeypatch.setattr(np.random, name, getattr(numbers, name))
        expected.append(real(dict(img=image.copy()))['img'])
        changed += (expected[-1] != image).any()
    assert changed > 100
    assert (ours([hole], pixels, draws) == np.stack(expected)).all()


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
        [dict(type='RandomCrop', crop_size=(4, 5), padding=1), dict(type='RandomFlip', prob=0.5)],
        [dict(type='RandomErasing', erase_prob=0.8, min_area_ratio=0.02, max_area_ratio=1.)
         ],  # higher or wider than the image, too
        [dict(type='Cutout', shape=3, prob=0.5)], ], ids=str)
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


@pytest.mark.parametrize('fill_std', [None, (5., 40., 90.)])
def test_colours_of_noise(fill_std):
    """The hole is the whole image."""
    (real, ), (noise, ) = both(
        dict(type='RandomErasing', erase_prob=1., min_area_ratio=1., max_area_ratio=1., aspect_range=(1., 1.),
             mode='rand', fill_color=(200, 128, 40), fill_std=fill_std))
    real.random_patch = lambda high, wide: (0, 0, high, wide)
    np.random.seed(0)
    expected = np.stack([real(dict(img=image.copy()))['img'] for image in images(2000)]).reshape(-1, 3)
    draws = np.random.default_rng(0).random((2000, noise.draws))
    noise.log_aspects = np.log([HEIGHT / WIDTH] * 2)
    seen = ours([noise], images(2000), draws).reshape(-1, 3)
    for channel in range(3):
        assert_as_often(Counter(expected[:, channel].tolist()), Counter(seen[:, channel].tolist()))


@pytest.mark.parametrize('step, message', [
    (dict(type='RandomErasing'), r'RandomErasing\(fill_color=\(128, 128, 128\)\) is a colour of 3 channels, '
                                 r'and the images have 1'),
    (dict(type='RandomErasing', mode='rand', fill_std=20), r'RandomErasing\(fill_color=\(128, 128, 128\)\) '
                                                           r'is a colour of 3'),
    (dict(type='Cutout', shape=2, pad_val=(1, 2, 3)), r'Cutout\(pad_val=\(1, 2, 3\)\) is a colour of 3 '
                                                      r'channels, and the images have 1'),
    (dict(type='Cutout', shape=2, pad_val=(1, 2)), r'Cutout\(pad_val=\(1, 2\)\) is a colour of 2 channels, '
                                                   r'and the images have 1'),
], ids=str)
def test_colours_of_other_channels(step, message):
    """Grey images have one; with mmpretrain's transforms, too, colours of three are an error."""
    with pytest.raises(ConfigError, match=message):
        batched([TRANSFORMS.build(step)], (1, HEIGHT, WIDTH))


def test_grey_images_stay_grey():
    steps = [
        dict(type='RandomErasing', mode='rand', erase_prob=1.),
        dict(type='Cutout', shape=2, pad_val=9, prob=1.)
    ]
    seen = images(3)[..., :1]
    made = batched([TRANSFORMS.build(step) for step in steps], (1, HEIGHT, WIDTH))
    assert ours(made, seen, np.full((3, 10), 0.5)).shape == (3, HEIGHT, WIDTH, 1)


def test_cut_out_in_two_of_three_colours():
    with pytest.raises(ConfigError, match=r'Cutout\(pad_val=\(1, 2\)\) is a colour of 2 channels, and the '
                                          r'images have 3; give one'):
        both(dict(type='Cutout', shape=2, pad_val=(1, 2)))


def test_noise_is_drawn_for_erased_images_alone(monkeypatch):
    """And is that of the image, whatever else is erased."""
    _, (noise, ) = both(
        dict(type='RandomErasing', erase_prob=0.25, mode='rand', min_area_ratio=0.3, max_area_ratio=0.5))
    drawn, uniforms = [], batched_transforms.uniforms
    monkeypatch.setattr(batched_transforms, 'uniforms',
                        lambda *asked: drawn.append(len(asked[1])) or uniforms(*asked))
    pixels, draws = images(200), np.random.default_rng(0).integers(0, 2**32, (200, noise.draws)) * 2.0**-32
    seen, erased = ours([noise], pixels, draws), draws[:, 0] < 0.25
    assert noise.draws == 7 and drawn == [erased.sum()] and 30 < erased.sum() < 70
    assert ((seen != pixels).any((1, 2, 3)) == erased).all()
    for index in np.flatnonzero(erased)[:5]:
        assert (ours([noise], pixels[index:index + 1], draws[index:index + 1])[0] == seen[index]).all()
    assert (ours([noise], pixels[~erased], draws[~erased]) == pixels[~erased]).all()


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
