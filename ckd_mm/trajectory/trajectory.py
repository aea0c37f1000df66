"""A training run as the list of its snapshots."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import SnapshotError
from ..files import plain, read_json, write_json
from .checkpoint_file import load_checkpoint_file
from .configs import network_and_classes
from .snapshot import Snapshot

MANIFEST = 'trajectory.json'
FORMAT = 'ckd_mm.trajectory/1'


class Trajectory:
    """Snapshots of one training run, in the order of their epochs.

    Args:
        folder: where the files lie; ``trajectory.json`` is written here.
        snapshots: need not be sorted.
        info: what is true of the whole run: ``model``, ``classes``, ``max_epochs``, ``versions``,
            ``held_out``, ...
    """

    def __init__(self, folder: Path, snapshots: Sequence[Snapshot] = (),
                 info: dict[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self.snapshots: list[Snapshot] = sorted(snapshots, key=lambda snapshot: snapshot.epoch)
        self.info = dict(info or {})

    # ------------------------------------------------------------ as a collection
    def __len__(self) -> int:
        return len(self.snapshots)

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self.snapshots)

    @property
    def epochs(self) -> list[int]:
        return [snapshot.epoch for snapshot in self.snapshots]

    @property
    def has_manifest(self) -> bool:
        return (self.folder / MANIFEST).is_file()

    @property
    def last(self) -> Snapshot:
        return self.at(max(self.epochs))

    @property
    def max_epochs(self) -> int:
        """Length of the run in epochs; for folders of checkpoints, the last one's epoch."""
        return self.info.get('max_epochs') or max(self.epochs)

    def at(self, epoch: int) -> Snapshot:
        """The snapshot after ``epoch`` epochs.

        Raises:
            SnapshotError: there is none.
        """
        for snapshot in self.snapshots:
            if snapshot.epoch == epoch:
                return snapshot
        raise SnapshotError(f'no snapshot at epoch {epoch} in {self.folder}: there are {self.epochs}. '
                            'Choose one of these, '
                            'or train with snapshots at that epoch')

    # ------------------------------------------------------------ reading
    @classmethod
    def open(cls, path: Path, model: dict | None = None) -> 'Trajectory':
        """A trajectory on disk: a ``trajectory.json``, a folder with one, or a folder of ``epoch_*.pth``.

        Args:
            model: the network's config, for checkpoints that do not carry their own.

        Raises:
            SnapshotError: nothing of the kind is there, or it is empty.
        """
        path = Path(path)
        if path.is_file() and path.suffix == '.json':
            trajectory = cls._from_manifest(path)
        elif (path / MANIFEST).is_file():
            trajectory = cls._from_manifest(path / MANIFEST)
        elif path.is_dir():
            trajectory = cls._from_checkpoints(path, model)
        else:
            raise SnapshotError(f'no trajectory at {path}: expected a {MANIFEST}, a folder with one, or a '
                                'folder of epoch_*.pth')
        if not len(trajectory):
            raise SnapshotError(f'the trajectory at {path} is empty: no {MANIFEST} with snapshots and no '
                                'epoch_*.pth there')
        return trajectory

    @classmethod
    def _from_manifest(cls, path: Path) -> 'Trajectory':
        manifest = read_json(path)
        if not isinstance(manifest, dict) or manifest.get('format') != FORMAT:
            raise SnapshotError(f'{path} is not a trajectory: its "format" is not "{FORMAT}"')
        entries = manifest.pop('snapshots', [])
        classes = manifest.get('classes')
        try:
            snapshots = [
                Snapshot(file=path.parent / entry['file'], epoch=entry['epoch'],
                         iteration=entry.get('iteration'), lr=entry.get('lr'),
                         metrics=entry.get('metrics') or {}, size=entry.get('size'),
                         sha256=entry.get('sha256'), seconds=entry.get('seconds'),
                         model=manifest.get('model'),
                         classes=None if classes is None else tuple(classes)) for entry in entries
            ]
        except (KeyError, TypeError) as error:
            raise SnapshotError(f'{path} is damaged: a snapshot lacks {error}') from error
        return cls(path.parent, snapshots, manifest)

    @classmethod
    def _from_checkpoints(cls, folder: Path, model: dict | None) -> 'Trajectory':
        files = {}
        for file in folder.iterdir():
            match = re.fullmatch(r'epoch_(\d+)\.pth', file.name)
            if match:
                files[int(match[1])] = file
        if not files:
            return cls(folder)
        # one file tells the network and the classes of all of them: reading every file would take minutes
        newest = files[max(files)]
        model, classes = network_and_classes(load_checkpoint_file(newest)['meta'], str(newest), model)
        snapshots = [
            Snapshot(file=file, epoch=epoch, size=file.stat().st_size, model=model, classes=classes)
            for epoch, file in files.items()
        ]
        return cls(folder, snapshots, dict(model=model, classes=classes, source='epoch_*.pth'))

    # ------------------------------------------------------------ writing
    def add(self, snapshot: Snapshot) -> None:
        """Add or replace the snapshot of that epoch and write the manifest."""
        self.snapshots = sorted(
            [kept for kept in self.snapshots if kept.epoch != snapshot.epoch] + [snapshot],
            key=lambda kept: kept.epoch)
        self.save()

    def set_metrics(self, epoch: int, metrics: dict[str, float]) -> None:
        snapshot = self.at(epoch)
        self.add(replace(snapshot, metrics={**snapshot.metrics, **metrics}))

    def save(self) -> None:
        entries = [
            dict(epoch=snapshot.epoch, iteration=snapshot.iteration, lr=snapshot.lr, metrics=snapshot.metrics,
                 file=str(snapshot.file.relative_to(self.folder)), size=snapshot.size, sha256=snapshot.sha256,
                 seconds=snapshot.seconds) for snapshot in self.snapshots
        ]
        write_json(self.folder / MANIFEST, dict(plain(self.info), format=FORMAT, snapshots=entries))

    def check(self) -> None:
        """
        Raises:
            SnapshotError: a file of the trajectory is missing or damaged.
        """
        for snapshot in self.snapshots:
            snapshot.check_file()
