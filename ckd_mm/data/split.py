"""Holding out a part of a training set."""

import torch
from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS as CLASSIFICATION_DATASETS

from ..errors import ConfigError
from ..registry import DATASETS
from ..validate import check_choice
from .views import ReplayableDataset, Views


def held_out_indices(total: int, held_out: float | int, seed: int) -> list[int]:
    """Sorted; the same for the same numbers, on every machine and in every process.

    Args:
        held_out: a fraction (float between 0 and 1) or a number of images (int).
    """
    is_count = type(held_out) is int
    if not (is_count or isinstance(held_out, float) and held_out < 1) or held_out <= 0:
        raise ConfigError(f'held_out={held_out!r} should be a fraction between 0 and 1, or a whole number of '
                          'images')
    count = held_out if is_count else round(total * held_out)
    if not 0 < count < total:
        raise ConfigError(f'held_out={held_out!r} would hold out {count} of {total} training images; some '
                          'must remain on either side')
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:count].tolist())


@DATASETS.register_module()
def split_dataset(dataset: dict, part: str, held_out: float | int, seed: int = 0) -> BaseDataset:
    """A data set without its held-out images (``part='rest'``) or of those alone (``part='held_out'``).

    Raises:
        ConfigError: the data set cannot be divided, or the part would be empty.
    """
    check_choice('part', part, ('rest', 'held_out'))
    built = CLASSIFICATION_DATASETS.build(dataset)
    whole = built.dataset if isinstance(built, Views) else built
    if not isinstance(whole, (BaseDataset, ReplayableDataset)):
        raise ConfigError(f"a part of a {type(whole).__name__} cannot be held out (only mmengine's "
                          "BaseDataset can be divided); use probe_split='test'")
    chosen = held_out_indices(len(built), held_out, seed)
    if part == 'rest':
        chosen = sorted(set(range(len(built))) - set(chosen))
    built.get_subset_(chosen)
    return built
