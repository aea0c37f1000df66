"""What every group of teachers has in common."""

from collections.abc import Callable

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from .channels_last import to_channels_last

CHANNELS_LAST_ON = ('cpu', )  # device types where it was measured to be faster for teachers


class BaseCohort(BaseModel):
    """M teachers in one model, frozen and in eval mode whatever is called on it. Subclasses write
    ``member_logits`` and ``expect_inputs_of``.

    As an mmengine model: ``mode='tensor'`` and ``'loss'`` return the stacked logits (M, N, C), ``'predict'``
    the ensemble's prediction (mean of the M softmax outputs). The logits pass through the submodule
    ``logits``, where mmrazor's recorders can read them (``source='logits'``). Teachers that are networks are
    in ``self.networks``.

    Args:
        data_preprocessor: config of the one that makes the inputs; mmpretrain's by default.
    """

    def __init__(self, data_preprocessor=None) -> None:
        if isinstance(data_preprocessor, dict):
            data_preprocessor = dict(dict(type='mmpretrain.ClsDataPreprocessor'), **data_preprocessor)
        super().__init__(data_preprocessor=data_preprocessor)
        self.logits = nn.Identity()
        self._channels_last_on: tuple[str, ...] = ()  # device types, until the next forward pass
        self._channels_last_anywhere = False
        self._then: Callable[[], None] | None = None
        self._parts: list[nn.Module] = []  # all modules below, once they were put to eval

    def prepare_for_inference(self, read: bool = False,
                              then: Callable[[], None] | None = None) -> 'BaseCohort':
        """Before the next forward pass, the first to know the size of the images, put the networks into
        channels_last on a CPU (:func:`to_channels_last`). Their logits change by rounding of float32.

        Args:
            read: others read their feature maps, so they stay as they are.
            then: called afterwards, say to compile them.
        """
        self._channels_last_on, self._then = () if read else CHANNELS_LAST_ON, then
        return self

    def to_channels_last(self) -> None:
        """Before the next forward pass put the networks into channels_last on any device."""
        self._channels_last_anywhere = True

    @property
    def member_names(self) -> list[str] | None:
        """What tables and figures call the M teachers, in the order of their logits; None: no names."""
        return None

    def expect_inputs_of(self, preprocessor: nn.Module) -> None:
        """Convert inputs that this data preprocessor makes to the statistics of each teacher."""
        raise NotImplementedError

    def member_logits(self, inputs: Tensor) -> list[Tensor]:
        """Logits (N, C) of each teacher for inputs (N, 3, H, W)."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> 'BaseCohort':
        super().train(False)
        # walking through the tree takes a millisecond a step; without `self`, which would be a circle that
        # outlives its last use
        self._parts = [module for child in self.children() for module in child.modules()]
        return self

    def freeze(self) -> 'BaseCohort':
        return self.train(False).requires_grad_(False)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        self.prepare(inputs)
        with torch.no_grad():
            return self.logits(torch.stack(self.member_logits(inputs)))

    def prepare(self, inputs: Tensor) -> None:
        """Before a forward pass on inputs (N, 3, H, W): put all to eval, and do what
        :meth:`prepare_for_inference` and :meth:`to_channels_last` announced. That runs the networks, so call
        it before recorders start."""
        if self.training or any(module.training for module in self._parts):  # someone reached into them
            self.train(False)
        if self._channels_last_anywhere or inputs.device.type in self._channels_last_on:
            for number, network in enumerate(getattr(self, 'networks', []), 1):
                problem = to_channels_last(network, inputs)
                if problem is not None:
                    print_log(f'Teacher network {number} is not put into channels_last: {problem}.',
                              logger='current')
        then, self._then = self._then, None
        if then is not None:
            then()
        self._channels_last_anywhere, self._channels_last_on = False, ()

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Data samples with the ensemble's mean probabilities and its prediction."""
        return with_predictions(self(inputs).float().softmax(dim=2).mean(dim=0), data_samples)


def with_predictions(scores: Tensor, data_samples: list | None = None) -> list:
    """Data samples with these probabilities (N, C) and the most probable classes."""
    from mmpretrain.structures import DataSample
    data_samples = data_samples or [DataSample() for _ in scores]
    return [sample.set_pred_score(score).set_pred_label(score.argmax(keepdim=True))
            for sample, score in zip(data_samples, scores)]


def head_name(index: int) -> str:
    """How tables and figures call the head at an output of the backbone."""
    return f'head {index}'
