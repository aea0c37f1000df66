"""What predictions tell about an image besides its label, I(X;Ŷ|Y)."""

import torch
from torch import Tensor
from torch.nn.functional import nll_loss

from ..registry import SELECTORS
from ..validate import TEMPERATURE, WEIGHT, check_number
from .score_selector import LogitSelector

FEW = 20  # images a class


def conditional_mutual_information(log_probs: Tensor, labels: Tensor) -> Tensor:
    r"""The empirical I(X;Ŷ|Y) of a classifier, nats.

    With :math:`Q_y` the mean of the predictions for the images of class y, it is the mean over the images of
    :math:`KL(P_x \| Q_{y(x)})` (Ye et al., ICLR 2024, arXiv 2401.08732): 0 where all images of a class get
    the same prediction.

    Args:
        log_probs: (N, C), log of the predicted probabilities.
        labels: (N,), int64, 0 to C-1.
    """
    classes = log_probs.shape[1]
    probs = log_probs.exp()
    count = torch.bincount(labels, minlength=classes).to(probs.dtype).clamp(min=1)
    means = probs.new_zeros(classes, classes).index_add_(0, labels, probs) / count[:, None]
    # where P is 0 its term is 0; the logarithms would make it NaN
    ratio = log_probs - means.clamp(min=torch.finfo(probs.dtype).tiny).log()[labels]
    return torch.where(probs > 0, probs * ratio, torch.zeros_like(probs)).sum(dim=1).mean()


@SELECTORS.register_module(name='cmi')
class ConditionalMutualInformationSelector(LogitSelector):
    """The maximum of :func:`conditional_mutual_information` on held-out images.

    An untrained network, too, can tell images of a class apart: the paper trains its teachers for the sum of
    log-likelihood and weighted CMI, which the score is with ``likelihood_weight``.

    Args:
        tau: temperature of the predictions; the paper takes 1.
        likelihood_weight: of the mean log-likelihood of the labels, beside the CMI.
    """

    name, unit = 'cmi', 'nats'

    def __init__(self, tau: float = 1.0, likelihood_weight: float = 0.0) -> None:
        self.tau = check_number('selector: tau', tau, **TEMPERATURE)
        self.likelihood_weight = check_number('selector: likelihood_weight', likelihood_weight, **WEIGHT)

    def fill(self, todo, table, trajectory, context) -> None:
        labels = context.probe.images.labels
        each = len(labels) / len(labels.unique())
        if each < FEW:
            context.log(f'Warning: cmi: there are {each:.1f} images a class, and of so few their mean '
                        'prediction is known badly: scores are too low, high ones most, and at most log '
                        f'{each:.1f}. Raise probe.num_images (and probe.held_out)')
        super().fill(todo, table, trajectory, context)

    def value(self, logits, labels):
        log_probs = (logits / self.tau).log_softmax(dim=1)
        found = conditional_mutual_information(log_probs, labels)
        if self.likelihood_weight:
            found = found - self.likelihood_weight * nll_loss(log_probs, labels)
        return found.item()
