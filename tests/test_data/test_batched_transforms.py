"""Against mmpretrain's own transforms, image by image."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from mmpretrain.registry import TRANSFORMS
from scipy import stats

from ckd_mm.data.batched_transforms import BATCHED

HEIGHT, WIDTH = 4, 5


def images(count: int = 1, channels: int = 3) -> np.ndarray:
    """(N, H, W, C), as mmpretrain's transforms take them."""
    return np.random.default_rng(0).integers(0, 256, (count, HEIGHT, WIDTH, channels), dtype=np.uint8)


def ours(transforms, pixels: np.ndarray, draw) -> np.ndarray:
    result, draw = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), np.array(draw)
    for transform in transforms:
        result, draw = transform(result, draw[:, :transform.draws]), draw[:, transform.draws:]
        assert result.dtype == torch.uint8
    assert draw.shape[1] == 0
    return result.permute(0, 2, 3, 1).numpy()


def both(*steps):
    """mmpretrain's and ours."""
    real = [TRANSFORMS.build(step) for step in steps]
    return real, [BATCHED[type(transform)](transform) for transform in real]


# ------------------------------------------------------------ the same pixels
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('settings', [
    dict(crop_size=3), dict(crop_size=(2, 4)), dict(crop_size=(4, 5)), dict(crop_size=(2, 9)),
    dict(crop_size=(4, 5), padding=1), dict(crop_size=4, padding=(1, 2)), dict(crop_size=9, padding=1),
    dict(crop_size=(3, 2), padding=(1, 0, 2, 3), pad_val=(9, 8, 7)),
    dict(crop_size=4, padding=2, pad_val=77),
    dict(crop_size=(4, 5), padding=1, padding_mode='reflect'),  # mmpretrain pads with a constant all the same
], ids=str)
def test_random_crop_at_every_place(settings, channels, monkeypatch):
    if isinstance(settings.get('pad_val'), tuple):
        settings = dict(settings, pad_val=settings['pad_val'][:channels])
    (real, ), (crop, ) = both(dict(type='RandomCrop', **settings))
    image, drawn = images(channels=channels), []
    monkeypatch.setattr(np.random, 'randint', lambda low, high: drawn.append(high) or low)
    real(dict(img=image[0]))
    places = [range(count) for count in drawn or (1, 1)]
    for top, left in itertools.product(*places):
        numbers = [left, top]
        monkeypatch.setattr(np.random, 'randint', lambda low, high, numbers=numbers: numbers.pop())
        expected = np.atleast_3d(real(dict(img=image[0]))['img'])
        for within in (0., 0.5, 1 - 2**-20):  # of all numbers that mean this place
            draw = [[(top + within) / len(places[0]), (left + within) / len(places[1])]]
            assert np.array_equal(ours([crop], image, draw)[0], expected), (top, left)


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


@pytest.mark.parametrize('steps', [
    [dict(type='RandomFlip', prob=0.6, direction=['horizontal', 'vertical', 'diagonal'])],
    [dict(type='RandomFlip', prob=[0.2, 0.3], direction=['horizontal', 'diagonal'])],
    [dict(type='RandomCrop', crop_size=(4, 5), padding=1), dict(type='RandomFlip', prob=0.5)],
], ids=str)
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
