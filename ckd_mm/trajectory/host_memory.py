"""Where weights wait until they are written."""

from collections import OrderedDict

import torch
from torch import Tensor


class HostMemory:
    """Memory on the host for one copy of a state dict, kept from copy to copy, in which each tensor lies in
    torch's usual order.

    New memory costs a page fault for every 4 KiB, several times the copying itself; memory that is there
    already costs none. For weights on a CUDA device it is pinned, so that the copy runs on the device's
    stream and nobody waits for it.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Give the memory back."""
        self._layout: list[tuple] | None = None
        self._copy: OrderedDict[str, Tensor] = OrderedDict()
        self._blocks: list[Tensor] = []
        self._sources: list[Tensor] = []  # held, so that nothing else can come to lie there

    def copy(self, state_dict: dict[str,
                                    Tensor]) -> tuple['OrderedDict[str, Tensor]', list[torch.cuda.Event]]:
        """The weights as they are now. Names of one tensor, as of tied weights, are names of one in the copy,
        too.

        Returns:
            the copy, valid until the next one, and the events to wait for before it is read, one a CUDA
            device.
        """
        # an optimizer changes weights where they lie
        layout = [(name, value.data_ptr(), value.dtype, value.shape, value.stride())
                  for name, value in state_dict.items()]
        if layout != self._layout:
            self._lay_out(state_dict)
            self._layout = layout
        # after the kernels that made these weights and before those that change them: the same stream
        torch._foreach_copy_(self._blocks, self._sources, non_blocking=True)
        return self._copy, [
            _now_on(device)
            for device in sorted({source.device.index
                                  for source in self._sources if source.is_cuda})
        ]

    def _lay_out(self, state_dict: dict[str, Tensor]) -> None:
        self.clear()
        blocks: dict[tuple, Tensor] = {}
        for name, value in state_dict.items():
            place = (value.data_ptr() or name, value.device, value.dtype, value.shape, value.stride()
                     )  # nothing is nowhere, and not shared
            if place not in blocks:
                blocks[place] = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.is_cuda)
                self._blocks.append(blocks[place])
                self._sources.append(value.detach())
            self._copy[name] = blocks[place]


def _now_on(device: int) -> torch.cuda.Event:
    with torch.cuda.device(device):
        event = torch.cuda.Event(blocking=True)  # the thread that waits should sleep, not spin
        event.record()
    return event
