"""Batches that are collated already."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from mmengine.dataset import default_collate
from mmpretrain.structures import DataSample
from torch import Tensor

from ..registry import FUNCTIONS


class CollatedBatch(Sequence):
    """Items of a data set that were made as one tensor; to any ``collate_fn`` they look like a list.

    Args:
        inputs: (N, C, H, W).
        data_samples: N.
    """

    def __init__(self, inputs: Tensor, data_samples: list[DataSample]) -> None:
        self.inputs, self.data_samples = inputs, data_samples

    @cached_property
    def items(self) -> list[dict]:
        return [dict(inputs=image, data_samples=sample)
                for image, sample in zip(self.inputs.unbind(), self.data_samples)]

    def __len__(self) -> int:
        return len(self.data_samples)

    def __getitem__(self, index: int) -> dict:
        return self.items[index]

    def __iter__(self) -> Iterator[dict]:
        return iter(self.items)


@FUNCTIONS.register_module()
def whole_batch(items: Sequence) -> Any:
    """mmengine's ``default_collate``, but a :class:`CollatedBatch` is handed on as it is."""
    if isinstance(items, CollatedBatch):
        return {'inputs': items.inputs, 'data_samples': items.data_samples}
    return default_collate(items)
