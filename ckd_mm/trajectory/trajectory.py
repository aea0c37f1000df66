"""A training run as the list of its snapshots."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..counting import EPOCH, ITER, WORDS, Length
from ..errors import SnapshotError
from ..files import plain, write_json
from ..record import read_record
from .checkpoint_file import load_checkpoint_file
from .configs import network_and_classes, require_registered
from .manifest import ManifestFacts
from .snapshot import NUMBERED, Snapshot, time_in

MANIFEST = 'trajectory.json'
FOLDER = 'snapshots'  # beside it, of the files that a training leaves
FORMAT = 'ckd_mm.trajectory/1'
# of checkpoints in a folder, of which the first kind that is there counts
NAMES = ('epoch_*.pth', 'iter_*.pth', 'best_*_epoch_*.pth', 'best_*_iter_*.pth')
REPAIR = 'To write it anew from the snapshots: python tools/trajectory.py repair'
FACTS = ('iteration', 'lr', 'size', 'sha256', 'seconds')  # of a snapshot, as they stand in the manifest


class Trajectory:
    """Snapshots of one training run, in the order of their times; their files lie below ``folder``.

    ``info`` are facts about the run: ``model``, ``classes``, ``max_epochs``, ``versions``, ``held_out``, ...;
    of one that was stopped early also ``planned_epochs``. One that counts iterations has ``max_iters`` and
    ``planned_iters`` instead, and its snapshots have no epoch.
    """

    def __init__(self, folder: Path, snapshots: Sequence[Snapshot] = (),
                 info: dict[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self.snapshots: list[Snapshot] = sorted(snapshots, key=lambda snapshot: snapshot.time)
        self.info = dict(info or {})

    def __len__(self) -> int:
        return len(self.snapshots)

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self.snapshots)

    @property
    def unit(self) -> str:
        """What the training counts."""
        return self.last.unit if self.snapshots else ITER if 'max_iters' in self.info else EPOCH

    @property
    def times(self) -> list[int]:
        """After so many epochs or iterations there is a snapshot."""
        return [snapshot.time for snapshot in self.snapshots]

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
    def length(self) -> Length:
        """Of the run; for folders of checkpoints, the last one's time."""
        return Length(self.info.get(f'max_{self.unit}s') or max(self.times), self.unit)

    @property
    def planned(self) -> Length:
        """More than ``length`` where the run was stopped early."""
        return Length(self.info.get(f'planned_{self.unit}s') or self.length, self.unit)

    def at(self, time: int) -> Snapshot:
        """The snapshot after so many epochs or iterations; raises SnapshotError if there is none."""
        for snapshot in self.snapshots:
            if snapshot.time == time:
                return snapshot
        unit = WORDS[self.unit]
        raise SnapshotError(f'no snapshot at {unit} {time} in {self.folder}: there are {self.times}. Choose '
                            f'one of these, or train with snapshots at that {unit}')

    @classmethod
    def open(cls, path: Path, model: dict | None = None) -> 'Trajectory':
        """A trajectory on disk: a ``trajectory.json``, a folder with one, a folder of checkpoints in
        mmengine's :data:`NAMES`, or one checkpoint file. Their network is ``model`` if they do not name
        it. Raises SnapshotError if there is none, or it is empty."""
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
                                f'folder of {" or ".join(NAMES)}, or a checkpoint file')
        if not len(trajectory):
            remedy = f'. {REPAIR} {path}' if (path / FOLDER).is_dir() else ''
            raise SnapshotError(f'the trajectory at {path} is empty: no {MANIFEST} with snapshots and no '
                                f'{" or ".join(NAMES)} there{remedy}')
        return trajectory

    @classmethod
    def from_manifest(cls, path: Path) -> 'Trajectory':
        """Raises CkdError if the file is missing, damaged or no manifest; it may be without snapshots."""
        info = read_record(path, FORMAT, 'trajectory', f'{REPAIR} {path.parent}', ManifestFacts)
        entries, classes = info.pop('snapshots', None) or [], info.get('classes')
        require_registered(info.get('model'), str(path), 'model')
        snapshots = [Snapshot(path.parent / entry['file'], epoch=entry.get('epoch'),
                              metrics=entry.get('metrics') or {}, model=info.get('model'),
                              classes=None if classes is None else tuple(classes),
                              **{fact: entry.get(fact) for fact in FACTS}) for entry in entries]
        return cls(path.parent, snapshots, info)

    @classmethod
    def _from_checkpoints(cls, folder: Path, model: dict | None) -> 'Trajectory':
        for name in NAMES:
            if files := [file for file in sorted(folder.glob(name)) if NUMBERED.fullmatch(file.name)]:
                break
        else:
            return cls(folder)
        found = [Snapshot(file, **time_in(file, {}), size=file.stat().st_size) for file in files]
        by_time = {snapshot.time: snapshot for snapshot in found}
        # the network and the classes of one file are those of all: reading every file would take minutes
        newest = by_time[max(by_time)].file
        model, classes = network_and_classes(load_checkpoint_file(newest)['meta'], str(newest), model)
        return cls(folder, [replace(snapshot, model=model, classes=classes) for snapshot in by_time.values()],
                   dict(model=model, classes=classes, source=name))

    @classmethod
    def _of_one(cls, file: Path, model: dict | None) -> 'Trajectory':
        """Its ``folder`` is the file."""
        meta = load_checkpoint_file(file)['meta']
        model, classes = network_and_classes(meta, str(file), model)
        snapshot = Snapshot(file, **time_in(file, meta), size=file.stat().st_size, model=model,
                            classes=classes)
        return cls(file, [snapshot], dict(model=model, classes=classes, source='a checkpoint'))

    def add(self, snapshot: Snapshot) -> None:
        """Add or replace the snapshot of that time and write the manifest."""
        others = [kept for kept in self.snapshots if kept.time != snapshot.time]
        self.snapshots = sorted([*others, snapshot], key=lambda kept: kept.time)
        self.save()

    def set_metrics(self, time: int, metrics: dict[str, float]) -> None:
        """Add to those of the snapshot of that time and write the manifest."""
        snapshot = self.at(time)
        self.add(replace(snapshot, metrics={**snapshot.metrics, **metrics}))

    def save(self) -> None:
        entries = [dict({} if snapshot.epoch is None else dict(epoch=snapshot.epoch),
                        file=str(snapshot.file.relative_to(self.folder)),
                        metrics=snapshot.metrics, **{fact: getattr(snapshot, fact) for fact in FACTS})
                   for snapshot in self.snapshots]
        write_json(self.manifest, dict(plain(self.info), format=FORMAT, snapshots=entries))

    def check(self) -> None:
        """Raises SnapshotError if a file is missing or damaged."""
        for snapshot in self.snapshots:
            snapshot.check_file()
