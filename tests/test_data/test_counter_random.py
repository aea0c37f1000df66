import numpy as np
import pytest
from scipy import stats

from ckd_mm.data.counter_random import philox, uniforms

# kat_vectors of the authors' Random123, "philox4x32 10": counter, key, result
KNOWN = [
    ('00000000 00000000 00000000 00000000', '00000000 00000000', '6627e8d5 e169c58d bc57ac4c 9b00dbd8'),
    ('ffffffff ffffffff ffffffff ffffffff', 'ffffffff ffffffff', '408f276d 41c83b0e a20bc7c6 6d5451fd'),
    ('243f6a88 85a308d3 13198a2e 03707344', 'a4093822 299f31d0', 'd16cfe09 94fdcceb 5001e420 24126ea1'),
]


def words(text: str) -> list:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize('counter, key, result', KNOWN)
def test_answers_of_the_authors(counter, key, result):
    assert philox(np.array(words(counter), dtype=np.uint64), tuple(words(key))).tolist() == words(result)


def test_a_number_depends_on_seed_image_and_view_alone():
    images, views = np.array([7, 0, 7, 50_000, 7]), np.array([0, 3, 0, 199, 1])
    together = uniforms(11, images, views, 6)
    for row, image, view in zip(together, images, views):
        assert (uniforms(11, np.array([image]), np.array([view]), 6)[0] == row).all()
        assert (uniforms(11, np.array([image]), np.array([view]), 2)[0] == row[:2]).all()
    assert (together[0] == together[2]).all()
    assert len(np.unique(together[[0, 1, 3, 4]])) == 24
    assert not np.isin(uniforms(12, images, views, 6), together).any()
    assert not np.isin(uniforms(11 + 2**32, images, views, 6),
                       together).any()  # the seeds of mmengine have 32 bits, others more


def chi_squared(bins: np.ndarray, count: int) -> float:
    """p-value of "all bins are as likely"."""
    return stats.chisquare(np.bincount(bins, minlength=count)).pvalue


def test_uniform():
    draws = uniforms(0, np.arange(20_000), np.zeros(20_000, int), 5)
    assert draws.min() >= 0 and draws.max() < 1
    assert all(0.001 < chi_squared((column * 81).astype(int), 81) < 0.999 for column in draws.T)
    assert stats.kstest(draws.ravel(), 'uniform').pvalue > 0.01


@pytest.mark.parametrize('neighbour', ['draw', 'image', 'view', 'seed'])
def test_independent_of_the_neighbour(neighbour):
    """What would go wrong first in a hash of counters: pairs of numbers, 16 by 16 bins."""
    images, views = np.arange(30_000), np.full(30_000, 3)
    first = uniforms(4, images, views, 2)[:, 0]
    second = dict(draw=uniforms(4, images, views, 2)[:, 1], image=uniforms(4, images + 1, views, 1)[:, 0],
                  view=uniforms(4, images, views + 1, 1)[:, 0],
                  seed=uniforms(5, images, views, 1)[:, 0])[neighbour]
    assert 0.001 < chi_squared((first * 16).astype(int) * 16 + (second * 16).astype(int), 256) < 0.999
