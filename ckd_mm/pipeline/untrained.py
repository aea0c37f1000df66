"""The teacher before its training."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..trajectory import Snapshot


@dataclass(frozen=True)
class UntrainedSnapshot(Snapshot):
    """Stands for a snapshot that is yet to come, in checks of what does not depend on its weights."""
    file: Path = Path('none')

    def __str__(self) -> str:
        return 'the teacher'

    def build(self, model: dict | None = None) -> nn.Module:
        """The network with random weights, frozen and in eval mode."""
        from mmpretrain.registry import MODELS
        config = copy.deepcopy(self.model if model is None else model)
        with torch.random.fork_rng(devices=[]):
            return MODELS.build(config).eval().requires_grad_(False)
