"""Keeping a module out of another's tree."""

from torch import nn


class Outside:
    """Holds teachers outside the module tree: no state dict, optimizer, DDP or EMA copy ever sees them."""

    def __init__(self, cohort: dict | nn.Module | None) -> None:
        self.cohort = cohort  # a module, or its config until it is needed
        self.config = cohort if isinstance(cohort, dict) else None
        self.ready = False  # built, and converts the inputs that it will get
        self.prepared = False  # for inference, at its first forward pass

    def __deepcopy__(self, memo) -> 'Outside':
        return self
