"""What a forward pass costs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def forward_flops(module: nn.Module, *inputs: Any, **options: Any) -> int:
    """Floating-point operations of convolutions and matrix products in one call; the rest (normalisation,
    activations) is not counted, as usual."""
    with FlopCounterMode(display=False) as counter:
        module(*inputs, **options)
    return counter.get_total_flops()


def network_flops(network: nn.Module, pixels: Tensor) -> int:
    """Of a classifier, from one image of ``pixels`` (N, C, H, W), before its data preprocessor, to its
    logits."""
    device = next(network.parameters()).device
    inputs = network.data_preprocessor(dict(inputs=pixels[:1]), training=False)['inputs']
    was_training = network.training
    flops = forward_flops(network.eval(), inputs.to(device), mode='tensor')
    network.train(was_training)
    return flops
