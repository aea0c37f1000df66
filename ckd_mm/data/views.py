"""Augmented images that can be seen again."""

import contextlib
import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS as CLASSIFICATION_DATASETS

from ..errors import ConfigError
from ..registry import DATASETS
from ..validate import check_int
from .counter_random import words


class ReplayableDataset:
    """A data set whose augmentation is a function of seed, image and view. Subclasses write ``__getitems__``
    and ``__len__``.

    A view is a number: the same image in the same view is augmented in the same way, in every epoch, process
    and run. :class:`ckd_mm.data.ViewSampler` draws it as index ``image + view * len(dataset)``.

    Args:
        seed: of the augmentation; None: that of the sampler, which is the run's.
    """

    def __init__(self, seed: int | None = None) -> None:
        if seed is not None:
            check_int(f'{type(self).__name__}: seed', seed, 0)
        self.seed = seed
        self.is_replayed = False

    def replay(self, seed: int) -> None:
        """Called by the sampler with its own seed, before the first image is read. Otherwise images are
        augmented anew each time: other samplers know no views and would show the first in every epoch."""
        if self.seed is None:
            self.seed = seed
        self.is_replayed = True

    def images_and_views(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """int64 (N, ) each; image -1 is the last one."""
        views, images = np.divmod(np.asarray(indices, dtype=np.int64), len(self))
        if views.min() < -1 or (views.max() > 0 and not self.is_replayed):
            raise IndexError(f'ckd_mm.{type(self).__name__}: image {max(indices, key=abs)} of {len(self)}; '
                             "views of images are drawn with sampler=dict(type='ckd_mm.ViewSampler')")
        return images, views.clip(0)

    def image_of(self, index: int) -> int:
        return int(self.images_and_views([index])[0][0])

    def __getitem__(self, index: int) -> dict:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[dict]:
        """A batch at once, which torch's data loaders prefer."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[dict]:
        """Every image in its first view; by default Python would go on to the next views for ever."""
        return (self[index] for index in range(len(self)))


@DATASETS.register_module()
class Views(ReplayableDataset):
    """Any mmengine data set, augmented by its pipeline, but replayable.

    The data samples hold ``sample_idx`` and ``view``. A resumed run goes on with the augmentation of the
    unbroken one, whatever the number of workers, and teacher targets can be cached (``distill.cache``).

    Args:
        dataset: config of the data set, or the data set.
        seed: see :class:`ReplayableDataset`.

    Raises:
        ConfigError: the data set is replayable already, or contains one that is.
    """

    def __init__(self, dataset: dict | BaseDataset, seed: int | None = None) -> None:
        super().__init__(seed)
        self.dataset = CLASSIFICATION_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        inside = _replayable_in(self.dataset)
        name = f'ckd_mm.{type(inside).__name__}'
        if inside is self.dataset:
            raise ConfigError(f'ckd_mm.Views: its data set is {name}, which can be replayed as it is; leave '
                              'Views out')
        if inside is not None:
            raise ConfigError(f'ckd_mm.Views: inside of its {type(self.dataset).__name__} is a {name}, which '
                              'draws its augmentation in another way, so it would not be replayed; put the '
                              f'data set that {name} is around in its place')

    def get_subset(self, indices: int | Sequence[int]) -> 'Views':
        part = copy.copy(self)
        part.dataset = self.dataset.get_subset(indices)
        return part

    def __getattr__(self, name: str) -> Any:
        """All else is the data set's, but for ``pipeline``: hooks would set it here instead of there."""
        if name in ('dataset', 'pipeline') or name.startswith('_'):
            raise AttributeError(f'{type(self).__name__} has no attribute {name!r}')
        return getattr(self.dataset, name)

    def get_data_info(self, index: int) -> dict:
        return self.dataset.get_data_info(self.image_of(index))

    def get_cat_ids(self, index: int) -> list[int]:
        return self.dataset.get_cat_ids(self.image_of(index))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[int]) -> list[dict]:
        if not self.is_replayed:
            return [self.dataset[index] for index in indices]
        images, views = self.images_and_views(indices)
        seeds = words(self.seed, images, views, 3)
        with random_state_kept():
            return [self._augmented(*drawn) for drawn in zip(images.tolist(), views.tolist(), seeds.tolist())]

    def _augmented(self, image: int, view: int, seeds: Sequence[int]) -> dict:
        """With all generators that transforms draw from seeded."""
        random.seed(seeds[0])
        np.random.seed(seeds[1])
        torch.default_generator.manual_seed(seeds[2])
        item = self.dataset[image]
        for name, value in (('sample_idx', image), ('view', view)):
            item['data_samples'].set_field(value, name, field_type='metainfo')
        return item


def _replayable_in(dataset: Any) -> ReplayableDataset | None:
    """The data set, or the first one inside of ``ConcatDataset``, ``RepeatDataset`` and the like."""
    if isinstance(dataset, ReplayableDataset):
        return dataset
    inner = [*getattr(dataset, 'datasets', ()), getattr(dataset, 'dataset', None)]
    replayable = (_replayable_in(each) for each in inner if each is not None)
    return next((each for each in replayable if each is not None), None)


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """python's, numpy's and torch's generators are put back afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
