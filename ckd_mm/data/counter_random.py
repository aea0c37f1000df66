"""Random numbers that are a function of seed, image and view."""

import numpy as np

MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)  # the key grows by these from round to round
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
ROUNDS = 10


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10 (Salmon et al., SC 2011, https://doi.org/10.1145/2063384.2063405), for many counters at
    once; numpy's makes one stream.

    Args:
        counter: uint64 (4, ...), each below 2**32; so is the result.
        key: two numbers below 2**32.
    """
    first, second, third, fourth = counter
    key_0, key_1 = map(np.uint64, key)
    for _ in range(ROUNDS):
        left, right = MULTIPLIERS[0] * first, MULTIPLIERS[1] * third  # 32 by 32 bits fit into 64
        first, third = (right >> HALF) ^ second ^ key_0, (left >> HALF) ^ fourth ^ key_1
        second, fourth = right & LOW, left & LOW
        key_0, key_1 = (key_0 + WEYL[0]) & LOW, (key_1 + WEYL[1]) & LOW
    return np.stack([first, second, third, fourth])


def words(seed: int, images: np.ndarray, views: np.ndarray, count: int) -> np.ndarray:
    """Numbers below 2**32, uint64 (N, count), that seed (its lowest 64 bits), image and view decide.

    Args:
        images, views: (N, ), each below 2**32.
    """
    blocks = -(-count // 4)
    counter = np.zeros((4, len(images), blocks), dtype=np.uint64)
    counter[0] = np.arange(blocks, dtype=np.uint64)
    counter[1], counter[2] = views[:, None], images[:, None]
    made = philox(counter, (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF))
    return np.moveaxis(made, 0, 2).reshape(len(images), 4 * blocks)[:, :count]


def uniforms(seed: int, images: np.ndarray, views: np.ndarray, count: int) -> np.ndarray:
    """Likewise numbers in [0, 1): float64 (N, count), multiples of 2**-32."""
    return words(seed, images, views, count) * 2.0**-32
