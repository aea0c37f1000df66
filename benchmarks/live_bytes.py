"""How much memory a call takes at most."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that operations inside the block made and that are still alive, after each
    operation.

    What was there before, weights and inputs, does not count, nor what an operation needs only for itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._bytes: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for storage in _storages((args, kwargs)):
            self._bytes.setdefault(StorageWeakRef(storage), 0)  # came from outside
        outputs = function(*args, **kwargs)
        for storage in _storages(outputs):
            self._bytes.setdefault(StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, self.now)
        return outputs

    @property
    def now(self) -> int:
        self._bytes = {storage: size for storage, size in self._bytes.items() if not storage.expired()}
        return sum(self._bytes.values())


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int:
    """What ``call`` takes at most beyond what was there before. On a GPU its allocator says so, with all
    workspaces."""
    if device.type == 'cuda':
        call()  # libraries take memory of their own in a first call
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with LiveBytes() as live:
        call()
    return live.peak
