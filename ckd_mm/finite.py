"""Tensors that hold NaN or infinity."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .errors import CkdError, DivergedError


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of those that hold NaN or infinity; waits once for each device."""
    found: dict[torch.device, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if value.is_floating_point() or value.is_complex():
            found.setdefault(value.device, {})[name] = torch.isfinite(value).all()
    return [name for finite in found.values()
            for name, holds in zip(finite, torch.stack([*finite.values()]).tolist()) if not holds]


def require_finite(weights: Mapping[str, Tensor], what: str, then: str = 'the training has diverged',
                   error: type[CkdError] = DivergedError) -> None:
    """
    Args:
        what, then: begin and end of the message.
    """
    if broken := not_finite(weights):
        raise error(f'{what}: {len(broken)} of its {len(weights)} weights are not finite (NaN or infinity), '
                    f'first: {broken[0]}; {then}')
