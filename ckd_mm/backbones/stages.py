"""What the backbones have in common: which stages they return, and how their weights begin."""

from collections.abc import Sequence

from ..errors import ConfigError

# normal, variance 2 / (kernel area x output channels): as in the original code of all four networks
INIT = [dict(type='Kaiming', layer='Conv2d'), dict(type='Constant', val=1, layer='_BatchNorm')]


def stage_indices(out_indices: Sequence[int], stages: int) -> tuple[int, ...]:
    """``out_indices`` of a backbone with so many stages, checked."""
    listed = isinstance(out_indices, (list, tuple)) and all(type(index) is int for index in out_indices)
    if not listed or not out_indices or list(out_indices) != sorted(set(out_indices) & set(range(stages))):
        raise ConfigError(f'out_indices={out_indices!r} should list one or more of the stages 0 to '
                          f'{stages - 1}, each once, in rising order')
    return tuple(out_indices)
