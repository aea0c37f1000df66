"""Batches that are collated already."""

from collections.abc import Sequence
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

    def __len__(self) -> int:
        return len(self.data_samples)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.inputs[index], data_samples=self.data_samples[index])


@FUNCTIONS.register_module()
def whole_batch(items: Sequence) -> Any:
    """mmengine's ``default_collate``, but a pre-collated batch is passed on as it is."""
    if isinstance(items, CollatedBatch):
        return {'inputs': items.inputs, 'data_samples': items.data_samples}
    return default_collate(items)
