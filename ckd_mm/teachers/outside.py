"""Keeping a module out of another's tree."""

from torch import nn


class Outside:
    """Holds teachers outside the module tree: no state dict, optimizer, DDP or EMA copy ever sees them.

    Attributes:
        cohort: a module, its config until it is needed, or None.
        config: what it was given as a config; None if it was given as a module.
        ready: whether ``cohort`` is built and knows whose inputs it will get.
        prepared: whether it was prepared for inference, at its first forward pass.
    """

    def __init__(self, cohort: dict | nn.Module | None) -> None:
        self.cohort = cohort
        self.config = cohort if isinstance(cohort, dict) else None
        self.ready = self.prepared = False

    def __deepcopy__(self, memo) -> 'Outside':
        return self
