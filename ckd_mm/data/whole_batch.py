"""Batches that need not be put together."""

from functools import cached_property
from typing import Any, Dict, Iterator, List, Sequence

from mmengine.dataset import default_collate
from mmpretrain.structures import DataSample
from torch import Tensor

from ..registry import FUNCTIONS


class WholeBatch(Sequence):
    """Items of a data set that were made together: a list of them, for any ``collate_fn``.

    Args:
        inputs: (N, C, H, W).
        data_samples: N.
    """

    def __init__(self, inputs: Tensor, data_samples: List[DataSample]) -> None:
        self.inputs, self.data_samples = inputs, data_samples

    @cached_property
    def items(self) -> List[Dict]:
        return [{
            'inputs': image, 'data_samples': sample
        } for image, sample in zip(self.inputs.unbind(), self.data_samples)]

    def __len__(self) -> int:
        return len(self.data_samples)

    def __getitem__(self, index: int) -> Dict:
        return self.items[index]

    def __iter__(self) -> Iterator[Dict]:
        return iter(self.items)


@FUNCTIONS.register_module()
def whole_batch(items: Sequence) -> Any:
    """mmengine's ``default_collate``, which would take a :class:`WholeBatch` apart to put it together
    again."""
    if isinstance(items, WholeBatch):
        return {'inputs': items.inputs, 'data_samples': items.data_samples}
    return default_collate(items)
