"""The teacher before its training."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..trajectory import Snapshot


@dataclass(frozen=True)
class UntrainedSnapshot(Snapshot):
    """Stands for a snapshot that is yet to come, in checks of what does not depend on its weights. There is
    no file."""
    file: Path = Path('none')

    def __str__(self) -> str:
        return 'the teacher'

    def build(self, model: dict | None = None) -> nn.Module:
        """The network with random weights, frozen and in eval mode. The random state of the caller is left as
        it was."""
        from mmpretrain.registry import MODELS
        with torch.random.fork_rng(devices=[]):
            return MODELS.build(
                copy.deepcopy(self.model if model is None else model)).eval().requires_grad_(False)
