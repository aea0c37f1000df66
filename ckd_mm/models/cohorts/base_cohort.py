"""What every group of teachers has in common."""

from typing import List, Optional

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn


class BaseCohort(BaseModel):
    """M teachers in one model, frozen and in eval mode whatever is called on it. Subclasses write ``teacher_logits``.

    It runs like any mmengine model: ``mode='tensor'`` and ``'loss'`` give the stacked logits (M, N, C), ``'predict'``
    evaluates the ensemble (mean of the M softmax outputs). The logits pass through the submodule ``logits``, where
    mmrazor's recorders can read them (``source='logits'``).
    """

    def __init__(self, data_preprocessor=None) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.logits = nn.Identity()

    @property
    def member_names(self) -> Optional[List[str]]:
        """What tables and figures call the M teachers, in the order of their logits; None where they have no names."""
        return None

    def expect_inputs_of(self, preprocessor: nn.Module) -> None:
        """Say which data preprocessor made the inputs that will come; each teacher gets its own statistics from them."""
        raise NotImplementedError

    def teacher_logits(self, inputs: Tensor) -> List[Tensor]:
        """Logits (N, C) of each teacher for inputs (N, 3, H, W)."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> 'BaseCohort':
        return super().train(False)

    def freeze(self) -> 'BaseCohort':
        return self.train(False).requires_grad_(False)

    def forward(self, inputs: Tensor, data_samples: Optional[list] = None, mode: str = 'tensor'):
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if any(module.training for module in self.modules()):  # someone reached into the teachers
            self.train(False)
        with torch.no_grad():
            return self.logits(torch.stack(self.teacher_logits(inputs)))

    def predict(self, inputs: Tensor, data_samples: Optional[list] = None) -> list:
        """Data samples with the ensemble's mean probabilities and its prediction."""
        return with_predictions(self(inputs).float().softmax(dim=2).mean(dim=0), data_samples)


def with_predictions(scores: Tensor, data_samples: Optional[list] = None) -> list:
    """Data samples with these probabilities (N, C) and the most probable classes."""
    from mmpretrain.structures import DataSample
    data_samples = data_samples or [DataSample() for _ in scores]
    return [
        sample.set_pred_score(score).set_pred_label(score.argmax(keepdim=True))
        for sample, score in zip(data_samples, scores)
    ]


def head_name(index: int) -> str:
    """How tables and figures call the head at an output of the backbone."""
    return f'head {index}'
