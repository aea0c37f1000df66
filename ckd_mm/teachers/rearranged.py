"""Frozen networks with channels side by side in memory."""

from functools import partial

import torch

from ..memory_format import set_memory_format
from .trial import Trial


def rearrange(trial: Trial) -> str | None:
    """Put the weights of a network's convolutions into ``torch.channels_last``, in place; feature maps follow
    them. Outputs stay what
    they were but for rounding. Where they do not, or the network stumbles over maps in that order (``view``),
    it is put back.

    Returns:
        Why it was, None if it could be done.
    """
    set_memory_format(trial.network, torch.channels_last)
    return trial.refuses(partial(set_memory_format, trial.network, torch.contiguous_format))
