"""Frozen networks in ``torch.channels_last``."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..compat import full_precision
from ..errors import in_a_line

# Of the deviation of outputs between images. Another memory layout is the same arithmetic: outputs differ by
# rounding (below 1e-6 in float32, 1e-2 with TF32), or pixels are mixed up, as if it were another image.
TOLERANCE = 5e-2


def set_memory_format(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Of all tensors (out, in, H, W), in place: optimizers and DDP keep their parameters. (``module.to``
    fails where a convolution has three dimensions.)"""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=memory_format)


def to_channels_last(network: nn.Module, inputs: Tensor) -> str | None:
    """Put the weights of a frozen network into channels_last, in place; feature maps follow them.

    It is run on noise before and after. Where its outputs do not agree, or it raises (``view``), or forward
    hooks read what it computes, it stays as it was.

    Args:
        inputs: (N, 3, H, W), of the size, type and device that the network will get.

    Returns:
        Why it stays as it was; None if it does not.
    """
    for name, module in network.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            return f'forward hooks of {name or "the network"} read what it computes, or make its weights'
    # weights made in inference mode could never be saved; autocast would round
    with torch.inference_mode(False), torch.no_grad(), full_precision(inputs.device.type):
        # four images, from grey to loud, always the same: all processes, and resumed runs, decide alike
        noise = torch.randn(4, *inputs.shape[1:], generator=torch.Generator().manual_seed(0))
        images = (noise * torch.tensor([0.0, 1.0, 2.0, 4.0]).view(4, 1, 1, 1)).to(inputs)
        try:
            expected = _tensors(network(images))
        except Exception as error:  # a cohort may resize its inputs, for example
            return f'it cannot be tried on noise {tuple(images.shape)} ({in_a_line(error)})'
        try:
            set_memory_format(network, torch.channels_last)
            problem = None if _agree(expected, _tensors(network(images))) else 'its outputs would change'
        except Exception as error:  # of any type: networks assert, view, ...
            problem = in_a_line(error)
        if problem is not None:
            set_memory_format(network, torch.contiguous_format)
    return problem


def _agree(before: list[Tensor], after: list[Tensor]) -> bool:
    """A NaN agrees with nothing."""
    return len(before) == len(after) > 0 and all(
        ((left - right).abs().max() <= TOLERANCE * (left - left.mean(dim=0)).abs().max()).item()
        for left, right in zip(before, after))


def _tensors(outputs: Any) -> list[Tensor]:
    return [leaf.float() for leaf in tree_flatten(outputs)[0] if isinstance(leaf, Tensor)]
