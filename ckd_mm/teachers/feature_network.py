"""A teacher whose feature maps can be read."""

import contextlib
import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import ConfigError, in_a_line
from ..trajectory import Snapshot
from .input_statistics import input_converter

MOST_OUTPUTS = 64  # no backbone of mmpretrain has more


def read_out_indices(out_indices: Sequence[int]) -> tuple[int, ...]:
    """Different outputs of a backbone, at least one, from shallow to deep."""
    listed = isinstance(out_indices, (list, tuple)) and all(
        type(index) is int and index >= 0 for index in out_indices)
    if not listed or not out_indices or len(set(out_indices)) != len(out_indices):
        raise ConfigError(f'out_indices={out_indices!r} should be a list of one or more outputs of the '
                          'backbone, each once, counted from 0: out_indices=(0, 1, 2). Without heads '
                          'the teacher alone teaches: leave `heads` out')
    return tuple(sorted(out_indices))


class FeatureNetwork(nn.Module):
    """A snapshot's network, frozen and in eval mode whatever is called on it. One forward pass gives feature
    maps and the network's own logits, which stay what they were, bit for bit.

    Its backbone is built anew with further ``out_indices``. Normalisation layers that a backbone has for
    outputs only (ConvNeXt, Swin) are not in the snapshot: they keep weight 1 and bias 0, since the linear
    layer of a head can do what other weights would.

    Attributes:
        shapes: of the maps, without the batch, by the index of the output.
        weights_sha256: of the snapshot's weights.

    Raises:
        ConfigError: the backbone has no such outputs, or they are no maps.
    """

    def __init__(self, snapshot: Snapshot, out_indices: Sequence[int], input_shape: Sequence[int]) -> None:
        super().__init__()
        self.map_indices, self.input_shape = read_out_indices(out_indices), _read_shape(input_shape)
        self._where = f'out_indices={list(self.map_indices)}'  # as errors name them
        network = snapshot.build()
        self.weights_sha256 = weights_sha256(network.state_dict())
        self.backbone, config = getattr(network, 'backbone', None), snapshot.model.get('backbone')
        own = getattr(self.backbone, 'out_indices', None)
        if own is None or not isinstance(config, dict):
            raise ConfigError(f'{self._where}: heads need a network whose backbone has `out_indices`; '
                              f'{type(self.backbone or network).__name__} of {snapshot} has none')
        self.own_indices = (own, ) if isinstance(own, int) else tuple(own)
        self.out_indices = tuple(sorted({*self.map_indices, *self.own_indices}))
        self.neck, self.head, self.data_preprocessor = network.neck, network.head, network.data_preprocessor
        self.converter = nn.Identity()
        # noise that is always the same; the caller's random state stays
        images = torch.randn(2, *self.input_shape, generator=torch.Generator().manual_seed(0))
        logits = _logits(network, images, snapshot)
        self.num_classes = logits.shape[1]
        if self.out_indices != self.own_indices:
            self.backbone = self._with_maps(config, images, snapshot)
        self.train(False).requires_grad_(False)
        self.shapes = self._checked_shapes(images, logits, snapshot)

    def _with_maps(self, config: dict, images: Tensor, snapshot: Snapshot) -> nn.Module:
        """The backbone with all outputs that are wanted."""
        try:
            return _rebuilt(self.backbone, config, self.out_indices, images)
        except Exception as error:
            known = []
            with contextlib.suppress(Exception):
                for index in range(MOST_OUTPUTS):
                    _rebuilt(self.backbone, config, sorted({index, *self.own_indices}), images)
                    known.append(index)
            unknown = set(self.map_indices) - set(known)
            reason = f'it has {known}' if unknown else in_a_line(error)
            kind = type(self.backbone).__name__
            raise ConfigError(f'{self._where}: the backbone of {snapshot}, {kind}, does not return these '
                              f'outputs; {reason}') from error

    @torch.no_grad()
    def _checked_shapes(self, images: Tensor, logits: Tensor, snapshot: Snapshot) -> dict[int, tuple]:
        maps, same = self(images)
        kind = type(self.backbone).__name__
        for index, output in zip(self.map_indices, maps):
            if not isinstance(output, Tensor) or output.dim() not in (2, 4):
                what = tuple(output.shape) if isinstance(output, Tensor) else f'a {type(output).__name__}'
                raise ConfigError(f'{self._where}: output {index} of {kind} is {what}; a head needs a map '
                                  '(N, channels, H, W), or (N, channels)')
        if not torch.equal(same, logits):
            raise ConfigError(f'{self._where}: with these outputs the logits of {snapshot} are no longer its '
                              f'own; {kind} cannot carry heads')
        return {index: tuple(output.shape[1:]) for index, output in zip(self.map_indices, maps)}

    def expect_inputs_of(self, preprocessor: nn.Module) -> None:
        """Convert inputs that this data preprocessor makes to the network's own statistics."""
        self.converter = input_converter(preprocessor, self.data_preprocessor)
        self.converter.to(next(self.backbone.parameters()).device)

    def train(self, mode: bool = True) -> 'FeatureNetwork':
        return super().train(False)

    def forward(self, inputs: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Maps from shallow to deep and, with a head, logits (N, C) for inputs (N, 3, H, W)."""
        outputs = dict(zip(self.out_indices, self.backbone(self.converter(inputs))))
        maps = [outputs[index] for index in self.map_indices]
        if self.head is None:
            return maps, None
        features = tuple(outputs[index] for index in self.own_indices)
        return maps, self.head(features if self.neck is None else self.neck(features))


def _read_shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(input_shape, (list, tuple)) or len(input_shape) != 3 or not all(
            type(size) is int and size > 0 for size in input_shape):
        raise ConfigError(f'input_shape={input_shape!r} should be that of an image, (channels, height, '
                          'width): (3, 32, 32)')
    return tuple(input_shape)


@torch.no_grad()
def _logits(network: nn.Module, images: Tensor, snapshot: Snapshot) -> Tensor:
    try:
        logits = network(images, mode='tensor')
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = (str(error).splitlines() or ['no detail'])[0]
        raise ConfigError(f'input_shape={tuple(images.shape[1:])}: the network of {snapshot} cannot take '
                          f'such images: {reason}') from error
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise ConfigError(f'{type(network.head).__name__} of {snapshot} should return logits (N, C) for '
                          'heads to teach beside it')
    return logits


@torch.no_grad()
def _rebuilt(backbone: nn.Module, config: dict, out_indices: Sequence[int], images: Tensor) -> nn.Module:
    """The same backbone, same weights, with other outputs. Raises anything if it does not have them."""
    options = {key: value for key, value in config.items() if key not in ('type', '_scope_', 'out_indices')}
    with torch.random.fork_rng(devices=[]):
        built = type(backbone)(out_indices=list(out_indices), **options)
    missing, unexpected = built.load_state_dict(backbone.state_dict(), strict=False)
    if unexpected:
        raise ConfigError(f'with out_indices={list(out_indices)} there is no weight {unexpected[0]}')
    for name, module in built.named_modules():
        new = {f'{name}.{key}' for key, _ in module.named_parameters(recurse=False)} & set(missing)
        if new and 'Norm' not in type(module).__name__:  # a new normalisation has weight 1 and bias 0
            raise ConfigError(f'{name} has weights that the snapshot lacks')
    built.train(False)  # of some backbones it returns nothing
    outputs = built(images)
    if len(outputs) != len(out_indices):  # many backbones ignore an unknown index
        raise ConfigError(f'{len(outputs)} outputs')
    return built


def weights_sha256(state_dict: dict[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values of weights, whatever their order and file."""
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        value = state_dict[name].detach().cpu().contiguous()
        digest.update(f'{name} {value.dtype} {tuple(value.shape)} '.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
