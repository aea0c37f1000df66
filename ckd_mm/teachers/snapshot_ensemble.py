"""Checkpoints as teachers (CheckpointKD, Sec. 3.1)."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..classifier_heads import number_of_classes
from ..compat import full_precision
from ..counting import WORDS
from ..errors import ConfigError, SnapshotError
from ..registry import MODELS
from ..trajectory import Snapshot, Trajectory
from ..trajectory.checkpoint_file import load_checkpoint_file
from ..trajectory.configs import network_and_classes
from ..trajectory.snapshot import time_in
from ..validate import TEMPERATURE, check_bool, check_choice, check_number
from .base_cohort import BaseCohort
from .class_map import ClassMap, Columns
from .input_statistics import input_converter, unresizing

SnapshotLike = str | Path | dict | Snapshot
DTYPES = dict(bf16=torch.bfloat16, fp16=torch.float16)


def find_snapshot(item: SnapshotLike, model: dict | None = None) -> Snapshot:
    """From a snapshot itself, a file, ``dict(file=..., model=...)``, or ``dict(trajectory=..., epoch=...)``
    (of a trajectory by iterations ``iter=...``; without both: the last); a ``model`` in it replaces that of
    file or trajectory. ``strict=False`` in it loads what fits.

    Args:
        model: config of the network, for snapshots without one.

    Raises:
        ConfigError: it is none of these.
        SnapshotError: there is no such snapshot.
    """
    if isinstance(item, Snapshot):
        return item if item.model is not None else replace(item, model=model)
    if isinstance(item, (str, Path)):
        item = dict(file=item)
    if isinstance(item, dict) and 'strict' in item:
        found = find_snapshot({key: item[key] for key in item if key != 'strict'}, model)
        return replace(found, strict=check_bool('strict', item['strict']))
    if not isinstance(item, dict) or set(item) - {'file', 'model', 'trajectory', *WORDS} or (
            'file' in item) == ('trajectory' in item):
        raise ConfigError(f'snapshots: {item!r} should be a file, dict(file=..., model=...) or '
                          'dict(trajectory=..., epoch=...)')
    own, model = item.get('model'), item.get('model', model)
    if 'trajectory' in item:
        trajectory = Trajectory.open(item['trajectory'], model)
        unknown = [unit for unit in WORDS if item.get(unit) is not None and unit != trajectory.unit]
        if unknown:
            raise ConfigError(f'snapshots: {item!r}: this training counts {trajectory.length.words}, give '
                              f'{trajectory.unit}=...')
        time = item.get(trajectory.unit)
        found = trajectory.last if time is None else trajectory.at(time)
        return find_snapshot(_of_network(found, own), model)
    file = Path(item['file'])
    meta = load_checkpoint_file(file)['meta']
    for parent in (file.parent, file.parent.parent):  # its manifest knows its checksum
        if (parent / 'trajectory.json').is_file():
            for snapshot in Trajectory.open(parent):
                if snapshot.file.resolve() == file.resolve():
                    return find_snapshot(_of_network(snapshot, own), model)
    model, classes = network_and_classes(meta, str(file), model)
    return Snapshot(file, **time_in(file, meta), model=model, classes=classes)


def _of_network(snapshot: Snapshot, model: dict | None) -> Snapshot:
    """With this config of its network, which has the snapshot's input statistics where it has none."""
    if model is None:
        return snapshot
    statistics = {key: value for key, value in (snapshot.model or {}).items() if key == 'data_preprocessor'}
    return replace(snapshot, model=statistics | dict(model))


@MODELS.register_module()
class SnapshotEnsemble(BaseCohort):
    """M networks with the weights of M snapshots, of one trajectory or of several.

    Args:
        snapshots, model: see :func:`find_snapshot`; one snapshot is an ensemble of one.
        data_preprocessor: of the inputs; default: the first network's.
        class_map: the names of a :class:`ClassMap`, for teachers of other classes than the student's.
        dtype: 'bf16' or 'fp16', of weights, inputs and features; logits are float32.
        temperatures: M numbers by which the logits are divided, one for each snapshot; default: 1.
        off_load: the networks stay in host memory, and each is on the device of the inputs during its own
            forward pass only.

    Raises:
        ConfigError: ``snapshots`` is no list of them, or there is another number of temperatures.
        SnapshotError: a snapshot is missing, damaged, of another network than its config, or of other classes
            than the rest.
    """

    def __init__(self, snapshots: Sequence[SnapshotLike], model: dict | None = None,
                 data_preprocessor: dict | nn.Module | None = None,
                 class_map: Sequence[str | None] | None = None, dtype: str | None = None,
                 temperatures: Sequence[float] | None = None, off_load: bool = False) -> None:
        super().__init__(data_preprocessor)
        if isinstance(snapshots, (str, dict)) or not snapshots:
            raise ConfigError(f'snapshots={snapshots!r} should be a list of at least one snapshot')
        self.snapshots = [find_snapshot(item, model) for item in snapshots]
        first, self.class_map = self.snapshots[0], ClassMap.of(class_map)
        self.classes = first.classes if self.class_map is None else None
        for snapshot in self.snapshots[1:] if self.class_map is None else ():
            if None not in (snapshot.classes, first.classes) and snapshot.classes != first.classes:
                raise SnapshotError(f'snapshots {first} and {snapshot} were trained on other classes, or the '
                                    'same in another order')
        self.networks = nn.ModuleList(snapshot.build() for snapshot in self.snapshots)
        self.restrict = nn.ModuleList() if self.class_map is None else nn.ModuleList(
            Columns(self.class_map.columns(item.classes, f'snapshot {item}')) for item in self.snapshots)
        self.off_load = check_bool('off_load', off_load)
        self.dtype = None if dtype is None else DTYPES[check_choice('dtype', dtype, tuple(DTYPES))]
        if self.dtype is not None:  # statistics stay exact
            for network in self.networks:
                for part in network.children():
                    if part is not network.data_preprocessor:
                        part.to(self.dtype)
        counts = [*map(number_of_classes, self.networks)]
        for snapshot, count in zip(self.snapshots, counts):
            if None not in (count, counts[0]) and count != counts[0] and self.class_map is None:
                raise SnapshotError(f'snapshot {first} has {counts[0]} classes and {snapshot} has {count}: '
                                    'they cannot teach together')
        if temperatures is not None and len(temperatures) != len(snapshots):
            raise ConfigError(f'temperatures={temperatures!r} should be {len(snapshots)} numbers, one '
                              'for each snapshot')
        self.temperatures = None if temperatures is None else [
            check_number('temperatures', value, **TEMPERATURE) for value in temperatures]
        if data_preprocessor is None:
            self.data_preprocessor = unresizing(self.networks[0].data_preprocessor)
        self.expect_inputs_of(self.data_preprocessor)

    @property
    def member_names(self) -> list[str]:
        return [f'snapshot {number}' + (f' ({snapshot.when})' if snapshot.time else '')
                for number, snapshot in enumerate(self.snapshots, 1)]

    @property
    def sources(self) -> list[str]:
        return [f'snapshot {snapshot}' for snapshot in self.snapshots]

    def expect_inputs_of(self, preprocessor: nn.Module) -> None:
        self.converters = nn.ModuleList(input_converter(preprocessor, network.data_preprocessor)
                                        for network in self.networks)
        self.converters.to(next(self.networks.parameters()).device)
        self.freeze()

    def member_logits(self, inputs: Tensor) -> list[Tensor]:
        # with a type of their own autocast, which may be to another, is off
        with contextlib.nullcontext() if self.dtype is None else full_precision(inputs.device.type):
            found = [self._answer(network, self.network_inputs(index, inputs))
                     for index, network in enumerate(self.networks)]
        if self.dtype is not None:
            found = [logits.float() for logits in found]
        if self.restrict:
            found = [own(logits) for own, logits in zip(self.restrict, found)]
        if self.temperatures is not None:
            found = [logits.float() / temperature for logits, temperature in zip(found, self.temperatures)]
        return found

    def _answer(self, network: nn.Module, inputs: Tensor) -> Tensor:
        if not self.off_load:
            return network(inputs, mode='tensor')
        weights = {name: value.to(inputs.device)
                   for name, value in (*network.named_parameters(), *network.named_buffers())}
        return functional_call(network, weights, (inputs, ), dict(mode='tensor'))

    def _apply(self, fn: Callable, recurse: bool = True) -> 'SnapshotEnsemble':
        """Behind ``to`` and ``cuda``: networks that are off-loaded stay where they are."""
        if not self.off_load:
            return super()._apply(fn, recurse)
        networks, self.networks = self.networks, nn.ModuleList()
        try:
            return super()._apply(fn, recurse)
        finally:
            self.networks = networks

    def network_inputs(self, index: int, inputs: Tensor) -> Tensor:
        converted = self.converters[index](inputs)
        return converted if self.dtype is None else converted.to(self.dtype)
