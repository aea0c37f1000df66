"""What a network answers to images in memory."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ..infoplane.estimators import ProbeImages
from ..progress import Progress


@torch.no_grad()
def logit_batches(network: nn.Module, images: ProbeImages, device: torch.device, batch: int = 128,
                  log: Callable[[str], None] = print) -> Iterator[Tensor]:
    """Logits (n, C), float32 on the CPU, of one batch of images after the other, in eval mode and the order
    of the images."""
    network = network.to(device).eval()
    progress = Progress(log, 'Logits of batch', math.ceil(len(images) / batch))
    for pixels in images.pixels.split(batch):
        inputs = network.data_preprocessor(dict(inputs=pixels), training=False)['inputs']
        yield network(inputs, mode='tensor').float().cpu()
        progress.step()


def predict_logits(network: nn.Module, images: ProbeImages, device: torch.device, batch: int = 128,
                   log: Callable[[str], None] = print) -> Tensor:
    """Logits (N, C), float32 on the CPU, of all images.

    Args:
        network: classifier with its data preprocessor, as :meth:`ckd_mm.trajectory.Snapshot.build` gives it.
        batch: images a forward pass.
    """
    return torch.cat(list(logit_batches(network, images, device, batch, log)))
