"""Holding out a part of a training set."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS as CLASSIFICATION_DATASETS

from ..errors import ConfigError
from ..registry import DATASETS
from ..validate import check_choice, check_part
from .views import ReplayableDataset, Views


def held_out_indices(total: int, held_out: float | int, seed: int) -> list[int]:
    """Sorted; the same for the same numbers, on every machine and in every process.

    Args:
        held_out: a fraction (float between 0 and 1) or a number of images (int).
    """
    check_part('held_out', held_out)
    count = held_out if type(held_out) is int else round(total * held_out)
    if not 0 < count < total:
        raise ConfigError(f'held_out={held_out!r} would hold out {count} of {total} training images; some '
                          'must remain on either side')
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:count].tolist())


@DATASETS.register_module()
def split_dataset(dataset: dict, part: str, held_out: float | int, seed: int = 0) -> BaseDataset:
    """A data set without its held-out images (``part='rest'``) or of those alone (``part='held_out'``). Its
    attribute ``held_out`` says which they are, see :func:`held_out_record`.

    Raises:
        ConfigError: the data set cannot be divided, or the part would be empty.
    """
    check_choice('part', part, ('rest', 'held_out'))
    built = CLASSIFICATION_DATASETS.build(dataset)
    whole = built.dataset if isinstance(built, Views) else built
    if not isinstance(whole, (BaseDataset, ReplayableDataset)):
        raise ConfigError(f"a part of a {type(whole).__name__} cannot be held out (only mmengine's "
                          "BaseDataset can be divided); use probe_split='test'")
    chosen = held_out_indices(len(built), held_out, seed)
    built.held_out = held_out_record(built, chosen, held_out, seed)
    if part == 'rest':
        chosen = sorted(set(range(len(built))) - set(chosen))
    built.get_subset_(chosen)
    return built


def held_out_record(dataset: Any, chosen: list[int], held_out: float | int, seed: int) -> dict[str, Any]:
    """What a manifest says of the images that a network is not trained on. They are drawn by their number, so
    that other images would be drawn where one is removed: ``total`` and ``images_sha256`` tell."""
    infos = [dataset.get_data_info(index) for index in chosen]
    return dict(held_out=held_out, seed=seed, total=len(dataset), images_sha256=_sha256(_names(infos)))


def _names(infos: list[dict]) -> Iterable[bytes]:
    """Of images: their paths below a common folder, which may be moved; of others their content."""
    paths = [info.get('img_path') for info in infos]
    if all(isinstance(path, (str, Path)) for path in paths):
        paths = [str(path) for path in paths]
        folder = len(os.path.dirname(os.path.commonprefix(paths)))
        return (path[folder:].encode() for path in paths)
    return (value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
            for info in infos for key, value in sorted(info.items()) if key != 'sample_idx')


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, 'little') + part)
    return digest.hexdigest()


def holds_out(recorded: dict[str, Any] | None, now: dict[str, Any]) -> bool:
    """Whether a record of :func:`held_out_record`, perhaps of an earlier version, which had ``held_out`` and
    ``seed`` only, is of the same images."""
    return bool(recorded) and all(now.get(key) == value for key, value in recorded.items())


def require_held_out(recorded: dict[str, Any] | None, now: dict[str, Any] | None, manifest: Path) -> None:
    """Raises ConfigError where the images that this manifest holds out are no longer those that the same
    settings draw."""
    if not recorded or now is None or holds_out(recorded, now) or \
            any(recorded[key] != now[key] for key in ('held_out', 'seed')):
        return
    raise ConfigError(
        f'held_out={now["held_out"]}, seed={now["seed"]} held out other images when {manifest} was written: '
        f'they were drawn from {recorded["total"]:,} training images, now there are {now["total"]:,}, or '
        'some have other names. Restore the list of files (in the place of a damaged image any other of its '
        'class will do, under its name), or begin anew in another --work-dir')
