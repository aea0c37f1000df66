"""What every group of teachers has in common."""

import copy

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..errors import ConfigError, reading
from ..registry import MODELS
from .channels_last import to_channels_last
from .class_map import ClassMap, in_all_classes


class BaseCohort(BaseModel):
    """M teachers in one model, frozen and in eval mode whatever is called on it. Subclasses write
    ``member_logits`` and ``expect_inputs_of``, and have teachers that are networks in ``self.networks``.

    ``mode='tensor'`` and ``'loss'`` return the stacked logits (M, N, C), ``'predict'`` data samples with the
    mean of the M softmax outputs. The logits pass through the submodule ``logits``, where mmrazor's recorders
    can read them (``source='logits'``).

    Args:
        data_preprocessor: config of the one that makes the inputs; mmpretrain's by default.

    Attributes:
        class_map: where the logits are of other classes than the student's.
    """
    class_map: ClassMap | None = None

    def __init__(self, data_preprocessor: dict | nn.Module | None = None) -> None:
        super().__init__(data_preprocessor=of_mmpretrain(data_preprocessor))
        self.logits = nn.Identity()
        self._parts: list[nn.Module] = []  # all modules below, once they were put to eval

    @property
    def member_names(self) -> list[str] | None:
        """What tables and figures call the M teachers, in the order of their logits; None: no names."""
        return None

    @property
    def sources(self) -> list[str] | None:
        """What messages call the M teachers, with their files; None: no names."""
        return self.member_names

    def expect_inputs_of(self, preprocessor: nn.Module) -> None:
        """Convert inputs that this data preprocessor makes to the statistics of each teacher."""
        raise NotImplementedError

    def member_logits(self, inputs: Tensor) -> list[Tensor]:
        """Logits (N, C) of each teacher for inputs (N, 3, H, W)."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> 'BaseCohort':
        super().train(False)
        # walking through the tree takes a millisecond a step; `self` in the list would be a reference cycle
        self._parts = [module for child in self.children() for module in child.modules()]
        return self

    def freeze(self) -> 'BaseCohort':
        return self.train(False).requires_grad_(False)

    def to_channels_last(self, inputs: Tensor) -> None:
        """Put the networks into channels_last, see :func:`to_channels_last`; logits change by rounding."""
        self.train(False)
        for number, network in enumerate(getattr(self, 'networks', []), 1):
            problem = to_channels_last(network, self.network_inputs(number - 1, inputs))
            if problem is not None:
                print_log(f'Teacher network {number} is not put into channels_last: {problem}.', 'current')

    def network_inputs(self, index: int, inputs: Tensor) -> Tensor:
        """Of one of the networks, of the inputs of all."""
        return inputs

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        if self.training or any(module.training for module in self._parts):  # set on a part, or by force
            self.train(False)
        with torch.no_grad():
            logits = self.logits(torch.stack(self.member_logits(inputs)))
        return ensemble_predictions(logits, data_samples, self.class_map) if mode == 'predict' else logits


def build_cohort(cohort: dict | nn.Module) -> BaseCohort:
    """From a config, or the cohort itself. Raises ConfigError where it is none."""
    if isinstance(cohort, dict):
        with reading(f'the cohort {cohort.get("type")} cannot be built'):
            cohort = MODELS.build(copy.deepcopy(cohort))
    if not isinstance(cohort, BaseCohort):
        raise ConfigError(f'a {type(cohort).__name__} is no cohort of teachers; give a subclass of '
                          "ckd_mm.teachers.BaseCohort, say dict(type='ckd_mm.SnapshotEnsemble', ...)")
    return cohort


def of_mmpretrain(data_preprocessor: dict | nn.Module | None) -> dict | nn.Module | None:
    """The config of a data preprocessor, by default of the type that mmpretrain's classifiers have."""
    if isinstance(data_preprocessor, dict):
        return {'type': 'mmpretrain.ClsDataPreprocessor', **data_preprocessor}
    return data_preprocessor


def ensemble_predictions(logits: Tensor, data_samples: list | None = None,
                         class_map: ClassMap | None = None) -> list:
    """Data samples with the mean of the M softmax outputs, for logits (M, N, C), and its largest class."""
    scores = in_all_classes(logits.float().softmax(dim=2).mean(dim=0), class_map)
    return with_predictions(scores, data_samples)


def with_predictions(scores: Tensor, data_samples: list | None = None) -> list:
    """Data samples with these probabilities (N, C) and the most probable classes."""
    data_samples = data_samples or [DataSample() for _ in scores]
    return [sample.set_pred_score(score).set_pred_label(score.argmax(keepdim=True))
            for sample, score in zip(data_samples, scores)]
