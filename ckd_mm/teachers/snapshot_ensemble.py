"""Checkpoints as teachers (CheckpointKD, Sec. 3.1)."""

from collections.abc import Sequence
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
    """A snapshot from what a config says: a file, ``dict(file=..., model=...)``, ``dict(trajectory=...,
    epoch=...)`` (without ``epoch``: the last), or a snapshot itself.

    Raises:
        ConfigError: it is none of these.
        SnapshotError: there is no such snapshot.
    """
    if isinstance(item, Snapshot):
        return item
    if isinstance(item, (str, Path)):
        item = dict(file=item)
    if not isinstance(item, dict) or set(item) - {'file', 'model', 'trajectory', 'epoch'} or (
            'file' in item) == ('trajectory' in item):
        raise ConfigError(f'snapshots: {item!r} should be a file, dict(file=..., model=...) or '
                          'dict(trajectory=..., epoch=...)')
    model = item.get('model', model)
    if 'trajectory' in item:
        trajectory = Trajectory.open(item['trajectory'], model)
        return trajectory.last if item.get('epoch') is None else trajectory.at(item['epoch'])
    file = Path(item['file'])
    meta = load_checkpoint_file(item['file'])['meta']
    for parent in (file.parent, file.parent.parent):  # its manifest knows its checksum
        if (parent / 'trajectory.json').is_file():
            for snapshot in Trajectory.open(parent):
                if snapshot.file.resolve() == file.resolve():
                    return snapshot
    model, classes = network_and_classes(meta, str(item['file']), model)
    return Snapshot(file=file, epoch=meta.get('epoch'), iteration=meta.get('iter'), model=model,
                    classes=classes)


@MODELS.register_module()
class SnapshotEnsemble(BaseCohort):
    """M networks with the weights of M snapshots, of one trajectory or of several.

    Args:
        snapshots: each as :func:`find_snapshot` takes it; one is an ensemble of one.
        model: config of the network, for files that do not say it.

    Raises:
        SnapshotError: a snapshot is missing, damaged, of another network than it says, or of other classes
            than the rest.
    """

    def __init__(self, snapshots: Sequence[SnapshotLike], model: dict | None = None,
                 data_preprocessor=None) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        if isinstance(snapshots, (str, dict)) or not snapshots:
            raise ConfigError(f'snapshots={snapshots!r} should be a list of at least one snapshot')
        self.snapshots = [find_snapshot(item, model) for item in snapshots]
        first = self.snapshots[0]
        for snapshot in self.snapshots[1:]:
            if None not in (snapshot.classes, first.classes) and snapshot.classes != first.classes:
                raise SnapshotError(f'snapshots {first} and {snapshot} were trained on other classes, or the '
                                    'same in another order')
        self.classes = first.classes
        self.networks = nn.ModuleList(snapshot.build(None if isinstance(snapshot.model, dict) else model)
                                      for snapshot in self.snapshots)
        counts = [getattr(getattr(network, 'head', None), 'num_classes', None) for network in self.networks]
        for snapshot, count in zip(self.snapshots, counts):
            if None not in (count, counts[0]) and count != counts[0]:
                raise SnapshotError(f'snapshot {first} has {counts[0]} classes and {snapshot} has {count}: '
                                    'they cannot teach together')
        if data_preprocessor is None:  # on its own, say in an evaluation, it takes its first member's inputs
            self.data_preprocessor = self.networks[0].data_preprocessor
        self.expect_inputs_of(self.data_preprocessor)

    @property
    def member_names(self) -> list[str]:
        return [f'snapshot {number}' + ('' if snapshot.epoch is None else f' (epoch {snapshot.epoch})')
                for number, snapshot in enumerate(self.snapshots, 1)]

    def expect_inputs_of(self, preprocessor: nn.Module) -> None:
        self.converters = nn.ModuleList(
            input_converter(preprocessor, network.data_preprocessor) or nn.Identity()
            for network in self.networks)
        self.converters.to(next(self.networks.parameters()).device)
        self.freeze()

    def member_logits(self, inputs: Tensor) -> list[Tensor]:
        return [network(converter(inputs), mode='tensor')
                for network, converter in zip(self.networks, self.converters)]
