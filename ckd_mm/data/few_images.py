"""A few images of a data loader, in its own process."""

import itertools
from collections.abc import Sequence

from torch.utils.data import DataLoader

FEW = 8


def few_batches(loader: DataLoader, sizes: Sequence[int]) -> DataLoader:
    """Batches of these sizes, all from the first images that ``loader`` would yield."""
    indices = list(itertools.islice(itertools.chain.from_iterable(loader.batch_sampler), max(sizes)))
    batches = [indices[:size] for size in sizes]
    return DataLoader(loader.dataset, batch_sampler=batches, collate_fn=loader.collate_fn)


def few_images(loader: DataLoader) -> DataLoader:
    """A single batch of at most :data:`FEW` images, spread over the data set."""
    count = len(loader.dataset)
    batch = sorted({count * index // FEW for index in range(FEW)})
    return DataLoader(loader.dataset, batch_sampler=[batch], collate_fn=loader.collate_fn)
