"""How the weights of convolutions lie in memory."""

import torch
from torch import nn


def set_memory_format(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Of all tensors of four dimensions, (out, in, H, W), in place: parameters stay those that optimizers and
    DDP know.

    ``nn.Module.to(memory_format=...)`` cannot do it where a convolution has three dimensions.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=memory_format)
