"""Where weights wait until they are written."""

from collections import OrderedDict
from ctypes import memmove
from typing import Dict, List, Optional, Tuple, Union

import torch
from torch import Tensor


class HostMemory:
    """Memory on the host for one copy of a state dict, kept from copy to copy.

    New memory costs a page fault for every 4 KiB, several times the copying itself; memory that is there already costs none. For
    weights on a CUDA device it is pinned, so that the copy runs on the device's stream and nobody waits for it.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Give the memory back."""
        self._layout: Optional[List[Tuple]] = None
        self._copy: OrderedDict[str, Tensor] = OrderedDict()
        self._pairs: List[Tuple[Tensor, Tensor]] = []  # on other devices
        self._places: List[Tuple[int, int, int]] = []  # in this memory: addresses and bytes
        self._sources: List[Tensor] = []  # held, so that nothing else can come to lie there
        self._devices: List[int] = []

    def copy(self, state_dict: Dict[str, Tensor]) -> Tuple['OrderedDict[str, Tensor]', List[torch.cuda.Event]]:
        """The weights as they are now. Tensors that share their memory, tied weights say, share it in the copy, too.

        Returns:
            the copy, valid until the next one, and the events to wait for before it is read, one a CUDA device.
        """
        # an optimizer changes weights where they lie
        layout = [(name, value.data_ptr(), value.dtype, value.shape, value.stride()) for name, value in state_dict.items()]
        if layout != self._layout:
            self._lay_out(state_dict)
            self._layout = layout
        for block, source, size in self._places:
            memmove(block, source, size)  # a network has many small tensors, and torch's copying takes half as long again to start
        for block, source in self._pairs:
            # after the kernels that made these weights and before those that change them: the same stream
            block.copy_(source, non_blocking=source.is_cuda)
        return self._copy, [_now_on(device) for device in self._devices]

    def _lay_out(self, state_dict: Dict[str, Tensor]) -> None:
        """Memory for each storage, as it is: torch.save writes storages, and tensors as views of them."""
        self.clear()
        blocks: Dict[Tuple[torch.device, Union[int, str]], Tensor] = {}
        for name, value in state_dict.items():
            storage = value.untyped_storage()
            place = (storage.device, storage.data_ptr() or name)  # nothing is nowhere, and is not shared
            if place not in blocks:
                blocks[place] = torch.empty(storage.nbytes(), dtype=torch.uint8, pin_memory=value.is_cuda)
                source = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
                self._sources.append(source)
                if storage.device.type == 'cpu':
                    self._places.append((blocks[place].data_ptr(), source.data_ptr(), storage.nbytes()))
                else:
                    self._pairs.append((blocks[place], source))
            self._copy[name] = torch.empty(0, dtype=value.dtype).set_(
                blocks[place].untyped_storage(), value.storage_offset(), value.size(), value.stride())
        self._devices = sorted({device.index for device, _ in blocks if device.type == 'cuda'})


def _now_on(device: int) -> torch.cuda.Event:
    with torch.cuda.device(device):
        event = torch.cuda.Event(blocking=True)  # the thread that waits should sleep, not spin
        event.record()
    return event
