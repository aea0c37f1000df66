"""Frozen networks with channels side by side in memory."""

import torch
from torch import Tensor, nn

from ..memory_format import set_memory_format
from .fused import agree, tensors


def rearrange(network: nn.Module, images: Tensor) -> bool:
    """Put the weights of convolutions into ``torch.channels_last``, in place; feature maps follow them. Outputs stay what they were but
    for rounding. Where they do not, or the network stumbles over maps in that order (``view``), it is put back as it was.

    Args:
        network: in eval mode, for good; called with images it returns tensors, or tuples or lists of them.
        images: a few, (N, 3, H, W), where the network is.

    Returns:
        Whether it could be done.
    """
    with torch.no_grad():
        before = tensors(network(images))
        set_memory_format(network, torch.channels_last)
        try:
            done = agree(before, tensors(network(images)))
        except RuntimeError:  # torch's: a map in this order cannot be viewed as the network wants
            done = False
        if not done:
            set_memory_format(network, torch.contiguous_format)
    return done
