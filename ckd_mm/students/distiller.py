"""Losses between layers of student and teachers, from what a step's forward passes give there."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from ..errors import ConfigError, in_a_line
from ..registry import MODELS
from ..validate import meant

ROLES = ('student', 'teacher')


class Distiller(BaseModule):
    """What :class:`TaughtStudent` asks of a distiller. Its parameters (connectors) learn with the student and
    are no part of it."""

    def attach(self, role: str, network: nn.Module) -> None:
        """Find the layers of the 'student' or of the 'teacher', which is the cohort.

        Raises:
            ConfigError: naming a layer that does not exist.
        """
        raise NotImplementedError

    def recording(self, role: str):
        """A context: what the layers of this role give inside is kept until :meth:`clear`."""
        raise NotImplementedError

    def recorded(self, role: str) -> list[Tensor]:
        """What the losses take from this role, behind connectors."""
        raise NotImplementedError

    def sources(self, role: str) -> set[str] | None:
        """Layers behind which nothing of a forward pass is needed; None if it has to run to its end."""
        raise NotImplementedError

    def is_complete(self, role: str) -> bool:
        """Whether all that the losses take from this role is recorded."""
        raise NotImplementedError

    def losses(self) -> dict[str, Tensor]:
        """
        Raises:
            ConfigError: naming the loss, its layers and what they gave, if it cannot compare that.
        """
        raise NotImplementedError

    def clear(self) -> None:
        """Forget what is recorded."""
        raise NotImplementedError

    def __str__(self) -> str:
        """The losses, for a log."""
        raise NotImplementedError


@MODELS.register_module()
class FeatureDistiller(Distiller):
    """Each loss compares the output of one layer of the student with that of one of the teachers.

    Args:
        losses: configs by name, each with the layers ``student`` and ``teacher`` beside the settings of the
            loss, which is a module of two outputs, say :class:`ckd_mm.losses.AttentionTransferLoss`::

                dict(loss_at=dict(type='ckd_mm.AttentionTransferLoss', student='backbone.layer1',
                                  teacher='networks.0.backbone.layer1'))

            A name has 'loss' in it, or mmengine would log but not minimise it.

    Raises:
        ConfigError: naming the loss and its setting.
    """

    def __init__(self, losses: dict[str, dict]) -> None:
        super().__init__()
        if not isinstance(losses, dict) or not losses:
            raise ConfigError(f'losses={losses!r} should be a dict of losses by name')
        self.layers: dict[str, dict[str, str]] = {role: {} for role in ROLES}
        self.outputs: dict[str, dict[str, Any]] = {role: {} for role in ROLES}
        self.records: dict[str, bool] = dict.fromkeys(ROLES, False)
        self.parts = nn.ModuleDict()
        for name, config in losses.items():
            if 'loss' not in name:
                raise ConfigError(f"losses.{name}: the name should have 'loss' in it, or it is not minimised")
            if not isinstance(config, dict) or 'type' not in config or not all(
                    isinstance(config.get(role), str) for role in ROLES):
                raise ConfigError(f"losses.{name}={config!r} should be a dict with type, the layers student "
                                  "and teacher ('networks.0.' and so on in front), and the loss's settings")
            for role in ROLES:
                self.layers[role][name] = config[role]
            try:
                self.parts[name] = MODELS.build({key: config[key] for key in config if key not in ROLES})
            except Exception as error:  # whatever a constructor says
                raise ConfigError(f'losses.{name} cannot be built: {in_a_line(error)}') from error

    def attach(self, role: str, network: nn.Module) -> None:
        modules = dict(network.named_modules())
        for name, layer in self.layers[role].items():
            if layer not in modules:
                raise ConfigError(f'losses.{name}: {role}={layer!r} is no layer of the network'
                                  f'{meant(layer, modules)}')
        for layer in self.sources(role):
            modules[layer].register_forward_hook(partial(self._keep, role, layer))

    def _keep(self, role: str, layer: str, module: nn.Module, inputs: tuple, output: Any) -> None:
        if self.records[role]:
            self.outputs[role].setdefault(layer, output)

    @contextmanager
    def recording(self, role: str) -> Iterator[None]:
        self.outputs[role].clear()
        self.records[role] = True
        try:
            yield
        finally:
            self.records[role] = False

    def recorded(self, role: str) -> list[Tensor]:
        return list(self.outputs[role].values())

    def sources(self, role: str) -> set[str]:
        return set(self.layers[role].values())

    def is_complete(self, role: str) -> bool:
        return self.sources(role) <= set(self.outputs[role])

    def losses(self) -> dict[str, Tensor]:
        return {name: self._loss(name, part) for name, part in self.parts.items()}

    def _loss(self, name: str, part: nn.Module) -> Tensor:
        layers = {role: self.layers[role][name] for role in ROLES}
        pair = {role: self.outputs[role].get(layer) for role, layer in layers.items()}
        try:
            return part(*(pair[role] for role in ROLES))
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            gives = ', '.join(f'{layers[role]!r} of the {role} gives {shape_of(pair[role])}'
                              for role in ROLES)
            raise ConfigError(f'losses.{name}: {gives}, which {type(part).__name__} cannot compare: '
                              f'{in_a_line(error)}') from error

    def clear(self) -> None:
        for outputs in self.outputs.values():
            outputs.clear()

    def __str__(self) -> str:
        return ', '.join(f'{name} ({type(part).__name__})' for name, part in self.parts.items())


def shape_of(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f'a {type(value).__name__} of {", ".join(map(shape_of, value))}'
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f'a {type(value).__name__}'
