"""Which layer's output the features of a network are, and how it becomes a map."""

import contextlib
import difflib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError

KINDS = 'a map (N, C, H, W), tokens (N, L, C) or a vector (N, C)'


def features_of(output: Any, images: Tensor) -> Tensor | None:
    """What a module returned, the last of several outputs, as a map (N, F, h, w); as it is if it is a vector
    (N, F), and None if it is neither.

    Tokens (N, L, F) are folded to the largest grid h x w that has the shape of the images (N, C, H, W). Those
    before it, L - h * w, are left out: class, distillation and register tokens have no place in the image.
    """
    while isinstance(output, (tuple, list)) and output:
        output = output[-1]
    if not isinstance(output, Tensor) or output.shape[:1] != images.shape[:1]:
        return None
    if output.dim() == 3:
        height, width = grid_of(output.shape[1], *images.shape[-2:])
        return output[:, -height * width:].transpose(1, 2).unflatten(2, (height, width))
    return output if output.dim() in (2, 4) else None


def grid_of(tokens: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the largest grid that no more than these tokens fill and that is of the shape of an
    image of this height and width."""
    grids = [(max(1, round(columns * height / width)), columns) for columns in range(1, tokens + 1)]
    return max([grid for grid in grids if grid[0] * grid[1] <= tokens], default=(tokens, 1))


@contextlib.contextmanager
def on_output(modules: dict[str, nn.Module], call: Callable[[str, Any], None]) -> Iterator[None]:
    """Inside the block ``call`` takes name and output of these modules, in the order in which they return."""
    handles = [module.register_forward_hook(lambda _module, _inputs, output, name=name: call(name, output))
               for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_layer(network: nn.Module, layer: str) -> str:
    """Raises ConfigError where a network has no module of this path."""
    known = [name for name, _ in network.named_modules() if name]
    if layer not in known:
        near = difflib.get_close_matches(layer, known, n=3) or known[:3]
        raise ConfigError(f'probe.layer={layer!r} is no module of {type(network).__name__}; did you mean '
                          f'{" or ".join(map(repr, near))}?')
    return layer


@torch.no_grad()
def feature_layer(network: nn.Module, images: Tensor, layer: str | None = None) -> str:
    """The path of the module whose output the features are: ``layer``, or else the "last convolution" of
    CheckpointKD's Sec. 4.2 by one rule, the last output with places in the image.

    Of the backbone (of the whole network where it has none) and all modules in it this is the last to return
    a map or tokens. Mostly that is the backbone; where it returns a pooled vector, a class token or logits,
    it is the last module before them that has more than one place. If there is none, say of a perceptron, it
    is the vector that the backbone returns.

    Args:
        images: (N, C, H, W), after the data preprocessor.

    Raises:
        ConfigError: there is no such module, or it returns nothing of :data:`KINDS`.
    """
    root = 'backbone' if isinstance(getattr(network, 'backbone', None), nn.Module) else ''
    chosen = check_layer(network, layer) if layer is not None else root
    modules = {name: module for name, module in network.named_modules()
               if name == chosen or (layer is None and (not root or name.startswith(f'{root}.')))}
    found: dict[str, tuple[int, ...]] = {}  # shapes of what can be features, by the last call

    def keep(name: str, output: Any) -> None:
        found.pop(name, None)
        if (features := features_of(output, images)) is not None:
            found[name] = tuple(features.shape)

    with on_output(modules, keep):
        network(images, mode='tensor')
    if layer is None and len(found.get(chosen, ())) != 4:
        places = [name for name, shape in found.items() if len(shape) == 4 and shape[2] * shape[3] > 1]
        chosen = places[-1] if places else chosen
    if chosen not in found:
        what = f'the network {type(network).__name__}' if layer is None else f'probe.layer={layer!r}'
        raise ConfigError(f'{what} returns nothing that an image could be reconstructed from, {KINDS}, for '
                          f'images {tuple(images.shape)}; name another layer with probe.layer, or use a '
                          'selector that needs no information plane')
    return chosen
