"""Which classes a network finds alike (Eq. 8 and Fig. 5 of CheckpointKD)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..infoplane.estimators import ProbeImages
from ..validate import TEMPERATURE, check_number
from .logits import predict_logits

KINDS = ('logits', 'probabilities')


def class_means(outputs: Tensor, labels: Tensor) -> Tensor:
    """The vectors V of Eq. 8, (C, C), float64: row i is the mean output (N, C) of class i, NaN without
    images. Raises ConfigError for a label (N,) that is no class."""
    classes = outputs.shape[1]
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ConfigError(f'labels go from {int(labels.min())} to {int(labels.max())}, but the network has '
                          f'{classes} classes, counted from 0; use the data set it was trained for')
    sums = torch.zeros(classes, classes, dtype=torch.float64).index_add_(0, labels, outputs.double())
    return sums / torch.bincount(labels, minlength=classes)[:, None]


def class_correlation(means: Tensor) -> Tensor:
    """Cosine similarity A_ij = V_i . V_j / (|V_i| |V_j|) of every two classes (Eq. 8), (C, C); NaN where a
    class has no images."""
    unit = F.normalize(means, dim=1)
    return unit @ unit.t()


def correlation_maps(network: nn.Module, images: ProbeImages, device: torch.device, tau: float = 5.0,
                     batch: int = 128, log: Callable[[str], None] = print) -> dict[str, Tensor]:
    """Both maps of Fig. 5, (C, C) each: of the ``logits`` and of the ``probabilities`` softmax(logits /
    tau)."""
    check_number('tau', tau, **TEMPERATURE)
    logits = predict_logits(network, images, device, batch, log)
    return {kind: class_correlation(class_means(outputs, images.labels))
            for kind, outputs in zip(KINDS, (logits, (logits.double() / tau).softmax(dim=1)))}


def diversity(correlation: Tensor) -> dict[str, float]:
    """How alike different classes are: ``mean`` and ``std`` of the off-diagonal entries of a map. With a high
    ``std`` some classes are much more alike than others, which a student can learn beyond the label."""
    pairs = correlation[~torch.eye(len(correlation), dtype=torch.bool)]
    pairs = pairs[~pairs.isnan()]
    return dict(mean=pairs.mean().item(), std=pairs.std(unbiased=False).item())
