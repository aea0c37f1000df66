"""How far a teacher's probabilities are from the truth."""

import torch.nn.functional as F
from torch import Tensor

from ..registry import SELECTORS
from ..validate import check_choice
from .score_selector import LogitSelector


def brier_score(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean squared distance of the predicted distribution from the label's, 0 to 2 (Brier, 1950)."""
    truth = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    return (logits.softmax(dim=1) - truth).square().sum(dim=1).mean()


MEASURES = dict(nll=(F.cross_entropy, 'nats'), brier=(brier_score, 'squared distance'))


@SELECTORS.register_module(name='calibration')
class CalibrationSelector(LogitSelector):
    """The snapshot whose probabilities are nearest to the truth on held-out images, by a proper score: the
    nearer they are to the Bayes class probabilities, the less variance a student has (Menon et al., ICML
    2021, arXiv 2005.10419).

    Args:
        measure: of which the selector score is the negative; 'nll', the negative log-likelihood, or 'brier'.
    """

    name = 'calibration'

    def __init__(self, measure: str = 'nll') -> None:
        self.measure = check_choice('selector: measure', measure, tuple(MEASURES))

    @property
    def unit(self) -> str:
        return f'{MEASURES[self.measure][1]}, negated {self.measure}'

    def value(self, logits, labels):
        return -MEASURES[self.measure][0](logits, labels).item()
