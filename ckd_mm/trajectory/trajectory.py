"""A training run as the list of its snapshots."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import SnapshotError
from ..files import plain, write_json
from ..record import read_record
from .checkpoint_file import load_checkpoint_file
from .configs import network_and_classes, require_registered
from .manifest import ManifestFacts
from .snapshot import Snapshot

MANIFEST = 'trajectory.json'
FOLDER = 'snapshots'  # beside it, of the files that a training leaves
FORMAT = 'ckd_mm.trajectory/1'
REPAIR = 'To write it anew from the snapshots: python tools/trajectory.py repair'
UNKNOWN = 0  # epoch of a single checkpoint that does not tell it
FACTS = ('iteration', 'lr', 'size', 'sha256', 'seconds')  # of a snapshot, as they stand in the manifest


class Trajectory:
    """Snapshots of one training run, in the order of their epochs; their files lie below ``folder``.

    ``info`` are facts about the run: ``model``, ``classes``, ``max_epochs``, ``versions``, ``held_out``, ...;
    of one that was stopped early also ``planned_epochs``.
    """

    def __init__(self, folder: Path, snapshots: Sequence[Snapshot] = (),
                 info: dict[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self.snapshots: list[Snapshot] = sorted(snapshots, key=lambda snapshot: snapshot.epoch)
        self.info = dict(info or {})

    def __len__(self) -> int:
        return len(self.snapshots)

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self.snapshots)

    @property
    def epochs(self) -> list[int]:
        return [snapshot.epoch for snapshot in self.snapshots]

    @property
    def manifest(self) -> Path:
        return self.folder / MANIFEST

    @property
    def has_manifest(self) -> bool:
        return self.manifest.is_file()

    @property
    def last(self) -> Snapshot:
        return self.snapshots[-1]

    @property
    def max_epochs(self) -> int:
        """Length of the run in epochs; for folders of checkpoints, the last one's epoch."""
        return self.info.get('max_epochs') or max(self.epochs)

    @property
    def planned_epochs(self) -> int:
        """More than ``max_epochs`` where the run was stopped early."""
        return self.info.get('planned_epochs') or self.max_epochs

    def at(self, epoch: int) -> Snapshot:
        """The snapshot after ``epoch`` epochs; raises SnapshotError if there is none."""
        for snapshot in self.snapshots:
            if snapshot.epoch == epoch:
                return snapshot
        raise SnapshotError(f'no snapshot at epoch {epoch} in {self.folder}: there are {self.epochs}. Choose '
                            'one of these, or train with snapshots at that epoch')

    @classmethod
    def open(cls, path: Path, model: dict | None = None) -> 'Trajectory':
        """A trajectory on disk: a ``trajectory.json``, a folder with one, a folder of ``epoch_*.pth``, or one
        checkpoint file. Their network is ``model`` if they do not name it. Raises SnapshotError if there is
        none, or it is empty."""
        path = Path(path)
        manifest = path if path.suffix == '.json' and path.is_file() else path / MANIFEST
        if manifest.is_file():
            trajectory = cls.from_manifest(manifest)
        elif path.is_dir():
            trajectory = cls._from_checkpoints(path, model)
        elif path.is_file():
            trajectory = cls._of_one(path, model)
        else:
            raise SnapshotError(f'no trajectory at {path}: expected a {MANIFEST}, a folder with one, a '
                                'folder of epoch_*.pth, or a checkpoint file')
        if not len(trajectory):
            remedy = f'. {REPAIR} {path}' if (path / FOLDER).is_dir() else ''
            raise SnapshotError(f'the trajectory at {path} is empty: no {MANIFEST} with snapshots and no '
                                f'epoch_*.pth there{remedy}')
        return trajectory

    @classmethod
    def from_manifest(cls, path: Path) -> 'Trajectory':
        """Raises CkdError if the file is missing, damaged or no manifest; it may be without snapshots."""
        info = read_record(path, FORMAT, 'trajectory', f'{REPAIR} {path.parent}', ManifestFacts)
        entries, classes = info.pop('snapshots', None) or [], info.get('classes')
        require_registered(info.get('model'), str(path), 'model')
        snapshots = [Snapshot(path.parent / entry['file'], epoch=entry['epoch'],
                              metrics=entry.get('metrics') or {}, model=info.get('model'),
                              classes=None if classes is None else tuple(classes),
                              **{fact: entry.get(fact) for fact in FACTS}) for entry in entries]
        return cls(path.parent, snapshots, info)

    @classmethod
    def _from_checkpoints(cls, folder: Path, model: dict | None) -> 'Trajectory':
        matches = [re.fullmatch(r'epoch_(\d+)\.pth', file.name) for file in folder.iterdir()]
        files = {int(match[1]): folder / match[0] for match in matches if match}
        if not files:
            return cls(folder)
        # the network and the classes of one file are those of all: reading every file would take minutes
        newest = files[max(files)]
        model, classes = network_and_classes(load_checkpoint_file(newest)['meta'], str(newest), model)
        snapshots = [Snapshot(file, epoch=epoch, size=file.stat().st_size, model=model, classes=classes)
                     for epoch, file in files.items()]
        return cls(folder, snapshots, dict(model=model, classes=classes, source='epoch_*.pth'))

    @classmethod
    def _of_one(cls, file: Path, model: dict | None) -> 'Trajectory':
        """Its ``folder`` is the file."""
        meta = load_checkpoint_file(file)['meta']
        model, classes = network_and_classes(meta, str(file), model)
        epoch = meta.get('epoch')
        snapshot = Snapshot(file, epoch=epoch if type(epoch) is int and epoch > 0 else UNKNOWN,
                            size=file.stat().st_size, model=model, classes=classes)
        return cls(file, [snapshot], dict(model=model, classes=classes, source='a checkpoint'))

    def add(self, snapshot: Snapshot) -> None:
        """Add or replace the snapshot of that epoch and write the manifest."""
        others = [kept for kept in self.snapshots if kept.epoch != snapshot.epoch]
        self.snapshots = sorted([*others, snapshot], key=lambda kept: kept.epoch)
        self.save()

    def set_metrics(self, epoch: int, metrics: dict[str, float]) -> None:
        """Add to those of that epoch's snapshot and write the manifest."""
        snapshot = self.at(epoch)
        self.add(replace(snapshot, metrics={**snapshot.metrics, **metrics}))

    def save(self) -> None:
        entries = [dict(epoch=snapshot.epoch, file=str(snapshot.file.relative_to(self.folder)),
                        metrics=snapshot.metrics, **{fact: getattr(snapshot, fact) for fact in FACTS})
                   for snapshot in self.snapshots]
        write_json(self.manifest, dict(plain(self.info), format=FORMAT, snapshots=entries))

    def check(self) -> None:
        """Raises SnapshotError if a file is missing or damaged."""
        for snapshot in self.snapshots:
            snapshot.check_file()
