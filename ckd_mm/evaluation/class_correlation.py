"""Which classes a network finds alike (Eq. 8 and Fig. 5 of CheckpointKD)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..infoplane.estimators import ProbeImages
from ..validate import check_number
from .logits import logit_batches

KINDS = ('logits', 'probabilities')


class ClassMeans:
    """The vectors V of Eq. 8, the mean output of each class's images, summed batch by batch in float64.

    Raises:
        ConfigError: a label is no class.
    """

    def __init__(self, num_classes: int) -> None:
        self.sums = torch.zeros(num_classes, num_classes, dtype=torch.float64)
        self.counts = torch.zeros(num_classes, dtype=torch.float64)

    def add(self, outputs: Tensor, labels: Tensor) -> None:
        """
        Args:
            outputs: (N, C).
            labels: (N,), 0 to C - 1.
        """
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.counts):
            raise ConfigError(f'labels go from {int(labels.min())} to {int(labels.max())}, but the network '
                              f'knows {len(self.counts)} classes, counted from 0; use the data set it was '
                              'trained for')
        self.sums.index_add_(0, labels, outputs.double())
        self.counts += torch.bincount(labels, minlength=len(self.counts))

    def result(self) -> Tensor:
        """(C, C), float64, row i the mean of class i; NaN for a class without images."""
        return self.sums / self.counts[:, None]


def class_correlation(means: Tensor) -> Tensor:
    """Cosine similarity A_ij = V_i . V_j / (|V_i| |V_j|) of every two classes (Eq. 8), (C, C); NaN where a
    class has no images."""
    unit = F.normalize(means, dim=1)
    return unit @ unit.t()


def correlation_maps(network: nn.Module, images: ProbeImages, device: torch.device, tau: float = 5.0,
                     batch: int = 128, log: Callable[[str], None] = print) -> dict[str, Tensor]:
    """Both maps of Fig. 5, (C, C) each, from one pass: of the ``logits`` and of the ``probabilities``
    softmax(logits / tau)."""
    check_number('tau', tau, above=0)
    means: dict[str, ClassMeans] = {}
    for logits, labels in zip(logit_batches(network, images, device, batch, log), images.labels.split(batch)):
        for kind, outputs in zip(KINDS, (logits, (logits.double() / tau).softmax(dim=1))):
            means.setdefault(kind, ClassMeans(logits.shape[1])).add(outputs, labels)
    return {kind: class_correlation(found.result()) for kind, found in means.items()}


def diversity(correlation: Tensor) -> dict[str, float]:
    """How alike different classes are: ``mean`` and ``std`` of the off-diagonal entries of a map, classes
    without images left out.

    A lower mean: classes are told apart more sharply; a higher std: some are much more alike than others,
    which is what a student can learn beyond the label.
    """
    pairs = correlation[~torch.eye(len(correlation), dtype=torch.bool)]
    pairs = pairs[~pairs.isnan()]
    return dict(mean=pairs.mean().item(), std=pairs.std(unbiased=False).item())
