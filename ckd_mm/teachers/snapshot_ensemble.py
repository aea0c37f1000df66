"""Checkpoints as teachers (CheckpointKD, Sec. 3.1)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from ..errors import ConfigError, SnapshotError
from ..registry import MODELS
from ..trajectory import Snapshot, Trajectory
from ..trajectory.checkpoint_file import load_checkpoint_file
from ..trajectory.configs import network_and_classes
from .base_cohort import BaseCohort
from .input_statistics import input_converter

SnapshotLike = str | Path | dict | Snapshot


def find_snapshot(item: SnapshotLike, model: dict | None = None) -> Snapshot:
    """From a snapshot itself, a file, ``dict(file=..., model=...)``, or ``dict(trajectory=..., epoch=...)``
    (without ``epoch``: the last).

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
    if not isinstance(item, dict) or set(item) - {'file', 'model', 'trajectory', 'epoch'} or (
            'file' in item) == ('trajectory' in item):
        raise ConfigError(f'snapshots: {item!r} should be a file, dict(file=..., model=...) or '
                          'dict(trajectory=..., epoch=...)')
    model = item.get('model', model)
    if 'trajectory' in item:
        trajectory = Trajectory.open(item['trajectory'], model)
        found = trajectory.last if item.get('epoch') is None else trajectory.at(item['epoch'])
        return find_snapshot(found, model)
    file = Path(item['file'])
    meta = load_checkpoint_file(file)['meta']
    for parent in (file.parent, file.parent.parent):  # its manifest knows its checksum
        if (parent / 'trajectory.json').is_file():
            for snapshot in Trajectory.open(parent):
                if snapshot.file.resolve() == file.resolve():
                    return find_snapshot(snapshot, model)
    model, classes = network_and_classes(meta, str(file), model)
    return Snapshot(file, epoch=meta.get('epoch'), iteration=meta.get('iter'), model=model, classes=classes)


@MODELS.register_module()
class SnapshotEnsemble(BaseCohort):
    """M networks with the weights of M snapshots, of one trajectory or of several.

    Args:
        snapshots, model: see :func:`find_snapshot`; one snapshot is an ensemble of one.
        data_preprocessor: of the inputs; default: the first network's.

    Raises:
        ConfigError: ``snapshots`` is no list of them.
        SnapshotError: a snapshot is missing, damaged, of another network than its config, or of other classes
            than the rest.
    """

    def __init__(self, snapshots: Sequence[SnapshotLike], model: dict | None = None,
                 data_preprocessor: dict | nn.Module | None = None) -> None:
        super().__init__(data_preprocessor)
        if isinstance(snapshots, (str, dict)) or not snapshots:
            raise ConfigError(f'snapshots={snapshots!r} should be a list of at least one snapshot')
        self.snapshots = [find_snapshot(item, model) for item in snapshots]
        first = self.snapshots[0]
        self.classes = first.classes
        for snapshot in self.snapshots[1:]:
            if None not in (snapshot.classes, first.classes) and snapshot.classes != first.classes:
                raise SnapshotError(f'snapshots {first} and {snapshot} were trained on other classes, or the '
                                    'same in another order')
        self.networks = nn.ModuleList(snapshot.build() for snapshot in self.snapshots)
        counts = [getattr(getattr(network, 'head', None), 'num_classes', None) for network in self.networks]
        for snapshot, count in zip(self.snapshots, counts):
            if None not in (count, counts[0]) and count != counts[0]:
                raise SnapshotError(f'snapshot {first} has {counts[0]} classes and {snapshot} has {count}: '
                                    'they cannot teach together')
        if data_preprocessor is None:
            self.data_preprocessor = self.networks[0].data_preprocessor
        self.expect_inputs_of(self.data_preprocessor)

    @property
    def member_names(self) -> list[str]:
        return [f'snapshot {number}' + ('' if snapshot.epoch is None else f' (epoch {snapshot.epoch})')
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
        return [network(converter(inputs), mode='tensor')
                for network, converter in zip(self.networks, self.converters)]
