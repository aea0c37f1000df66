"""The logits of a network for images in memory."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..infoplane.estimators import ProbeImages
from ..progress import Progress


@torch.no_grad()
def predict_logits(network: nn.Module, images: ProbeImages, device: torch.device, batch: int = 128,
                   log: Callable[[str], None] = print) -> Tensor:
    """Logits (N, C), float32 on the CPU, of a classifier in eval mode, with its own data preprocessor."""
    network, logits = network.to(device).eval(), []
    progress = Progress(log, 'Logits of batch', math.ceil(len(images) / batch))
    for pixels in images.pixels.split(batch):
        inputs = network.data_preprocessor(dict(inputs=pixels), training=False)['inputs']
        logits.append(network(inputs, mode='tensor').float().cpu())
        progress.step()
    return torch.cat(logits)
