"""Whether a file has the weights of the network that is to start from them."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from ..errors import ConfigError, SnapshotError

BACKBONE = 'backbone.'


@contextlib.contextmanager
def loading(model: nn.Module, source: str, remarks: list[str]) -> Iterator[None]:
    """Around what loads weights into a network or parts of it; mmengine leaves those that a file lacks, or
    has in another shape, as they were initialised, and goes on.

    Args:
        source: names the file in messages.
        remarks: get a line for each backbone that gets only some of its weights.

    Raises:
        ConfigError: a file that cannot be loaded, or has none of the weights.
    """
    names = {value: name for name, value in model.named_parameters()}
    found: dict[str, bool] = {}
    offered: dict[str, Any] = {}

    def look(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        offered.update(state_dict)
        for key, value in module.named_parameters(recurse=False):
            if value in names:
                found[names[value]] = getattr(state_dict.get(prefix + key), 'shape', None) == value.shape

    handles = [module._register_load_state_dict_pre_hook(functools.partial(look, module))
               for module in model.modules()]
    try:
        yield
    except SnapshotError as error:
        raise ConfigError(str(error)) from error
    finally:
        for handle in handles:
            handle.remove()
    # any network may have biases of these shapes
    own = {name: value for value, name in names.items() if value.dim() > 1}
    if found and not any(there for name, there in found.items() if name in own):
        missing = next(name for name in own if name in found)
        raise ConfigError(f'{source} has none of the weights of the network: it has {shown(offered)}, and '
                          f'the network {missing} {tuple(own[missing].shape)}')
    remarks.extend(partial_backbones(found, source))


def partial_backbones(found: dict[str, bool], source: str) -> Iterator[str]:
    """Of several networks, those that the file is not for have nothing, as planned."""
    for network in sorted({name.partition(BACKBONE)[0] for name in found if BACKBONE in name}):
        names = [name for name in found if name.startswith(network + BACKBONE)]
        missing = [name for name in names if not found[name]]
        if 0 < len(missing) < len(names):
            yield (f'{source} has only {len(names) - len(missing)} of the {len(names)} weights of the '
                   f'backbone; the others begin as initialised, the first of them is {missing[0]}')


def shown(offered: dict[str, Any]) -> str:
    weights = [(name, tuple(value.shape)) for name, value in offered.items()
               if isinstance(value, Tensor) and value.dim() > 1] or [(name, '') for name in offered]
    return ' '.join(map(str, weights[0])).strip() if weights else 'nothing'
