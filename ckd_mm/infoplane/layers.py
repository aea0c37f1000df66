"""Which layer's output the features of a network are, and how it becomes a map."""

import contextlib
import difflib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import ConfigError

MOST_EXTRA = 5  # class, distillation and register tokens


class Layer(NamedTuple):
    """A module whose output the features are.

    Args:
        path: of the module in the network.
        channels: axis of its output.
    """
    path: str
    channels: int

    def features(self, output: Any, images: Tensor) -> Tensor:
        """A map (N, F, h, w), or the vector (N, F) of a layer without places, of what it returned.

        Tokens are folded to the largest grid that has the shape of the images (N, C, H, W). Those before it
        are left out: class, distillation and register tokens have no place in the image.
        """
        found = last_output(output, images).movedim(self.channels, 1)
        if found.dim() != 3:
            return found
        rows, columns = grid_of(found.shape[2], *images.shape[-2:])
        return found[:, :, -rows * columns:].unflatten(2, (rows, columns))


def last_output(output: Any, images: Tensor) -> Tensor | None:
    """The last of several outputs; None if it has not a map, tokens or a vector for each image."""
    while isinstance(output, (tuple, list)) and output:
        output = output[-1]
    fits = isinstance(output, Tensor) and output.dim() in (2, 3, 4) and len(output) == len(images)
    return output if fits else None


def grid_of(tokens: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the largest grid that no more than these tokens fill and that is of the shape of an
    image of this height and width."""
    grids = [(max(1, round(columns * height / width)), columns) for columns in range(1, tokens + 1)]
    return max([grid for grid in grids if math.prod(grid) <= tokens], default=(tokens, 1), key=math.prod)


def channel_axis(shape: tuple[int, ...], image: tuple[int, int], convolved: set[int]) -> int:
    """Which axis of an output of this shape holds the channels.

    Of maps, (N, C, h, w) or (N, h, w, C), the other two are the more like the height and width of the image;
    if in doubt it is the first. Of tokens it is the last, (N, L, C), unless that one is as long as the output
    of a convolution has places, and the other is not (MLP-Mixer's (N, C, L)), or is a pooled 1.

    Args:
        convolved: places of the outputs of convolutions.
    """
    if len(shape) == 4:
        first, last = (abs(math.log(rows * image[1] / (columns * image[0])))
                       for rows, columns in (shape[2:], shape[1:3]))
        return 3 if last < first else 1
    are_tokens = any(places <= shape[1] <= places + MOST_EXTRA for places in convolved)
    return 2 if len(shape) == 3 and shape[2] > 1 and (are_tokens or shape[2] not in convolved) else 1


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
def feature_layer(network: nn.Module, images: Tensor, layer: str | None = None) -> Layer:
    """The module whose output the features are: ``layer``, or else the "last convolution" of CheckpointKD's
    Sec. 4.2 by one rule, the last output with places in the image.

    Of the backbone (of the whole network where it has none) and all modules in it this is the last to return
    a map or tokens. Mostly that is the backbone; where it returns a pooled vector, a class token or logits,
    it is the last module before them that has more than one place. If there is none, say of a perceptron, it
    is the vector that the backbone returns.

    Args:
        images: (N, C, H, W), after the data preprocessor.

    Raises:
        ConfigError: there is no such module, or it returns neither map, tokens nor vector.
    """
    root = 'backbone' if isinstance(getattr(network, 'backbone', None), nn.Module) else ''
    chosen = root if layer is None else check_layer(network, layer)
    modules, convolved, found = dict(network.named_modules()), set(), {}
    size = tuple(images.shape[-2:])

    def keep(name: str, output: Any) -> None:
        found.pop(name, None)  # the last call counts
        output = last_output(output, images)
        if output is not None and (name == chosen or name.startswith(f'{root}.'.lstrip('.'))):
            is_map = name == root and output.dim() == 4
            axis = 1 if is_map else channel_axis(output.shape, size, convolved)
            found[name] = Layer(name, axis), Layer(name, axis).features(output, images).shape
        if output is not None and isinstance(modules[name], nn.Conv2d):
            convolved.add(math.prod(output.shape[2:]))

    with on_output(modules, keep):
        network(images, mode='tensor')
    if layer is None and (chosen not in found or len(found[chosen][1]) != 4):
        places = [name for name, (_, shape) in found.items() if len(shape) == 4 and shape[2] * shape[3] > 1]
        chosen = places[-1] if places else chosen
    if chosen not in found:
        what = f'the network {type(network).__name__}' if layer is None else f'probe.layer={layer!r}'
        raise ConfigError(f'{what} returns nothing that an image could be reconstructed from, neither a map '
                          f'(N, C, H, W), tokens (N, L, C) nor a vector (N, C), for images '
                          f'{tuple(images.shape)}; name another layer with probe.layer, or use a selector '
                          'that needs no information plane')
    return found[chosen][0]
