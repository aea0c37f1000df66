"""What the backbones have in common: which stages they return, and how their weights begin."""

from collections.abc import Sequence

from ..errors import ConfigError

# normal, variance 2 / (kernel area x output channels): as in the original code of all three networks
INIT = [dict(type='Kaiming', layer='Conv2d'), dict(type='Constant', val=1, layer='_BatchNorm')]


def stage_indices(out_indices: Sequence[int], stages: int) -> tuple[int, ...]:
    """``out_indices`` of a backbone, checked; 0 is the first stage.

    Raises:
        ConfigError: not a list of different stages in rising order, the order in which they are returned.
    """
    known = isinstance(out_indices, (list, tuple)) and len(out_indices) > 0 and all(
        type(index) is int and 0 <= index < stages for index in out_indices)
    if not known or list(out_indices) != sorted(set(out_indices)):
        raise ConfigError(f'out_indices={out_indices!r} should list one or more of the stages 0 to '
                          f'{stages - 1}, each once, in rising order')
    return tuple(out_indices)
