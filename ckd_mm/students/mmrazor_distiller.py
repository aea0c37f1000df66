"""The bridge to mmrazor's ``ConfigurableDistiller``, of which little is said when something is wrong."""

import copy
from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ..compat import require_mmrazor
from ..errors import ConfigError, in_a_line
from ..training import as_list
from ..validate import meant
from .distiller import ROLES, Distiller, shape_of

# mmrazor's losses would let torch repeat the smaller of two tensors: the first dimension that must be equal
EQUAL_FROM = dict(ATLoss=2, L1Loss=0, L2Loss=0, ABLoss=0)


class MMRazorDistiller(Distiller):
    """
    Args:
        config: of an mmrazor ``ConfigurableDistiller``. Types in it without a scope are mmrazor's.

    Raises:
        ConfigError: naming the part that cannot be built, or a loss that is never computed.
        EnvironmentConflict: mmrazor is missing or cannot be imported.
    """

    def __init__(self, config: dict) -> None:
        super().__init__()
        require_mmrazor(f'distiller={config["type"]}')
        from mmrazor.registry import MODELS
        _check_parts(config)
        # also of recorders, connectors and losses inside
        self.razor = MODELS.build(dict(copy.deepcopy(config), _scope_=config.get('_scope_', 'mmrazor')))
        self.has_own_rules = type(self.razor).__name__ != 'ConfigurableDistiller'
        idle = [f'distill_losses.{name}' for name in self.razor.distill_losses
                if name not in self.razor.loss_forward_mappings]
        if not self.has_own_rules and (idle or not self.razor.distill_losses):
            raise ConfigError(f'{(idle or ["distill_losses"])[0]} is never computed: say in '
                              'loss_forward_mappings what each loss compares')
        used = {record.get('connector') for record in self._records()}
        for name, connector in self.razor.connectors.items():
            connector.requires_grad_(name in used)

    def _records(self, role: str | None = None) -> list[dict]:
        """What the losses take from recorders, of both networks or of one."""
        return [record for mapping in self.razor.loss_forward_mappings.values() for record in mapping.values()
                if role is None or record['from_student'] == (role == 'student')]

    def _recorders(self, role: str) -> Any:
        return getattr(self.razor, f'{role}_recorders')

    def attach(self, role: str, network: nn.Module) -> None:
        for name, recorder in self._recorders(role).recorders.items():
            try:
                recorder.initialize(network)
            except AssertionError as error:  # a method or function was looked up when the recorder was built
                layers = [layer for layer, _ in [*network.named_modules(), *network.named_parameters()]]
                raise ConfigError(f'{role}_recorders.{name}: source={recorder.source!r} is no layer of the '
                                  f'network{meant(recorder.source, layers)}') from error

    def recording(self, role: str):
        return self._recorders(role)

    def recorded(self, role: str) -> list[Tensor]:
        return _tensors([self.razor.get_record(record['recorder'], record['from_student'],
                                               record.get('record_idx', 0), record.get('data_idx'))
                         for record in self._records(role)])

    def sources(self, role: str) -> set[str] | None:
        recorders = self._recorders(role).recorders.values()
        if any(type(recorder).__name__ != 'ModuleOutputsRecorder' for recorder in recorders):
            return None
        return {recorder.source for recorder in recorders}

    def is_complete(self, role: str) -> bool:
        wanted = [(self._recorders(role).get_recorder(record['recorder']), record.get('record_idx', 0))
                  for record in self._records(role)]
        return all(len(recorder.data_buffer) > index for recorder, index in wanted)

    def losses(self) -> dict[str, Tensor]:
        if self.has_own_rules:
            return self.razor.compute_distill_losses()
        return {name: self._loss(name, mapping) for name, mapping in self.razor.loss_forward_mappings.items()}

    def _loss(self, name: str, mapping: dict[str, dict]) -> Tensor:
        given, gives, loss = {}, [], self.razor.distill_losses[name]
        for argument, record in mapping.items():
            role = ROLES[not record['from_student']]
            recorder = self._recorders(role).get_recorder(record['recorder'])
            where = f'{recorder.source!r} of the {role}'
            try:
                given[argument] = self.razor.get_record(**record)
            except Exception as error:  # an index that is too high, a connector of other features, ...
                found = ' and '.join(map(shape_of, recorder.data_buffer))
                raise ConfigError(f'distill_losses.{name}: {where} gives {found}, which does not fit '
                                  f'{record} (data_idx chooses of several): {in_a_line(error)}') from error
            through = f' through {record["connector"]!r}' if record.get('connector') else ''
            gives.append((where + through, given[argument]))
        _check_shapes(name, type(loss).__name__, gives)
        try:
            return loss(**given)
        except Exception as error:
            raise ConfigError(f'distill_losses.{name}: {_said(gives)}, which {type(loss).__name__} cannot '
                              f'compare: {in_a_line(error)}') from error

    def clear(self) -> None:
        for role in ROLES:
            for recorder in self._recorders(role).recorders.values():
                recorder.reset_data_buffer()

    def __str__(self) -> str:
        return ', '.join(f'{name} ({type(loss).__name__})'
                         for name, loss in self.razor.distill_losses.items())

    # checkpoints have mmrazor's names
    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        return self.razor.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.razor.load_state_dict(*args, **kwargs)


def _check_parts(config: dict) -> None:
    """Build one part after another, so that a message can name it."""
    from mmrazor.registry import MODELS, TASK_UTILS
    with DefaultScope.overwrite_default_scope(config.get('_scope_', 'mmrazor')), \
            torch.random.fork_rng(devices=[]):
        for group, registry, suffix in (
                ('student_recorders', TASK_UTILS, 'Recorder'), ('teacher_recorders', TASK_UTILS, 'Recorder'),
                ('connectors', MODELS, ''), ('distill_losses', MODELS, '')):
            parts = [(name, part) for name, given in (config.get(group) or {}).items()
                     for part in as_list(given)]
            for name, part in parts:
                kind = f'{part.get("type")}{suffix}' if isinstance(part, dict) else str(part)
                if registry.get(kind) is None:
                    known = [item.removesuffix(suffix) for item in registry.module_dict]
                    raise ConfigError(f'{group}.{name}: {part!r} has no type that mmrazor knows'
                                      f'{meant(kind.removesuffix(suffix), known)}')
                try:
                    registry.build(dict(copy.deepcopy(part), type=kind))
                except Exception as error:  # whatever a constructor says
                    raise ConfigError(
                        f'{group}.{name}: {kind} cannot be built: {in_a_line(error)}') from error


def _check_shapes(name: str, kind: str, gives: list[tuple[str, Any]]) -> None:
    equal_from = EQUAL_FROM.get(kind)
    if equal_from is None:
        return
    shapes = {value.shape[equal_from:] for _, value in gives if isinstance(value, Tensor)}
    if len(shapes) > 1 or shapes == {torch.Size()}:
        what = 'maps (N, C, H, W) of one height and width' if equal_from else 'features of one shape'
        raise ConfigError(f'distill_losses.{name}: {_said(gives)}: {kind} compares {what}; choose other '
                          'layers, or a connector that makes the one out of the other')


def _said(gives: list[tuple[str, Any]]) -> str:
    return ', '.join(f'{where} gives {shape_of(value)}' for where, value in gives)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, (list, tuple)) else []
