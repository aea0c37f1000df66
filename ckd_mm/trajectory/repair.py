"""Write a manifest anew, from the snapshots that it should list."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..counting import WORDS, Length
from ..errors import CkdError, SnapshotError
from ..files import sha256_of_file
from .checkpoint_file import load_checkpoint_file
from .configs import network_and_classes, parse_config_text
from .schedule import KEYS, snapshot_times
from .snapshot import ACCURACY, Snapshot
from .trajectory import FOLDER, MANIFEST, Trajectory


def repair(folder: Path, accuracies: dict[int, float], log: Callable[[str], None] = print) -> Trajectory:
    """Write ``folder/trajectory.json`` with all snapshots in ``folder/snapshots`` that are whole. What the
    present manifest says of them stays; if it cannot be read, they tell time, network, classes and seed, and
    the config inside them the held-out images (their number and seed). Seconds and versions are lost.

    Args:
        accuracies: by time, in percent, where the manifest cannot be read.
        log: gets a line for each snapshot that is left out.

    Raises:
        SnapshotError: no snapshot is whole.
    """
    folder, known = Path(folder), Trajectory(folder)
    try:
        known = Trajectory.from_manifest(folder / MANIFEST)
    except CkdError as error:
        log(f'{error}; it is made anew')
    by_time, found = {snapshot.time: snapshot for snapshot in known}, []
    for file in sorted(file for unit in WORDS for file in (folder / FOLDER).glob(f'{unit}_*.pth')):
        try:
            snapshot, meta = _read(file)
            if before := by_time.get(snapshot.time):
                before.check_file()
            found.append((before or snapshot, meta))
        except SnapshotError as error:
            log(f'left out: {error}')
    if not found:
        raise SnapshotError(f'no snapshot in {folder / FOLDER} is whole, so that there is nothing to list')
    snapshots, metas = zip(*sorted(found, key=lambda pair: pair[0].time))
    if not known.info:
        known.info = dict(_facts(metas[-1], snapshots[-1]))
        snapshots = [replace(snapshot, metrics={ACCURACY: accuracies[snapshot.time]})
                     if snapshot.time in accuracies else snapshot for snapshot in snapshots]
    known.snapshots = list(snapshots)
    known.save()
    return known


def _read(file: Path) -> tuple[Snapshot, dict[str, Any]]:
    Snapshot(file).check_file()
    meta = load_checkpoint_file(file)['meta']
    model, classes = network_and_classes(meta, str(file))
    found = Snapshot(file, epoch=meta.get('epoch'), iteration=meta.get('iter'), lr=meta.get('lr'),
                     model=model, classes=classes, size=file.stat().st_size, sha256=sha256_of_file(file))
    if type(found.time) is not int:
        raise SnapshotError(f'{file} does not say its {WORDS[found.unit]}')
    return found, meta


def _facts(meta: dict[str, Any], last: Snapshot) -> dict[str, Any]:
    """Of the run, as SnapshotHook writes them."""
    config = parse_config_text(meta.get('cfg') or '', str(last.file))
    hook = next((hook for hook in config.get('custom_hooks') or []
                 if str(hook.get('type')).endswith('SnapshotHook')), {})
    unit = last.unit
    length = Length((config.get('train_cfg') or {}).get(f'max_{unit}s', last.time), unit)
    when = {key: hook[key] for key in KEYS if hook.get(key) is not None}
    times = {f'max_{unit}s': length, f'snapshot_{unit}s': snapshot_times(length, **when) if when else None}
    return dict(hook.get('info') or {}, model=last.model, classes=last.classes, **times,
                ema=hook.get('ema', False), seed=meta.get('seed'))
