"""Checks that several stages make before anything is trained."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import CkdError, ConfigError
from ..evaluation.evaluate import evaluation_parts
from ..hooks.schedule_hook import schedule_names
from ..infoplane import extract_features, load_probe_images
from ..pipeline.run import Run
from ..training import type_name


def check_no_own_hook(name: str, hook: Any) -> None:
    """Raises ConfigError if the stages of a run add such a hook themselves."""
    kind = type_name(hook)
    if kind in schedule_names():
        raise ConfigError(f'{name}: {kind} belongs into distill.schedule; every stage would inherit it')
    if kind == 'SnapshotHook' or (kind == 'InfoPlaneHook' and name == 'custom_hooks'):
        raise ConfigError(f'{name}: {kind} stands for what `teacher.snapshots` and `probe` ask for in this '
                          'config, and every stage would inherit it; take it out')


def check_maps(network: nn.Module, run: Run) -> str:
    """Raises ConfigError if the network has no feature maps to probe, or the test set cannot be read."""
    if run.test_set() is None:
        return 'no images to probe'
    images = load_probe_images(evaluation_parts(run.config)[0]['dataset'], 2)
    features = extract_features(network, images, torch.device('cpu'))
    return f'feature maps {tuple(features.maps.shape[1:])}'


def check_teacher_weights(weights: Sequence[float] | None, teachers: int, each: str = 'teacher') -> None:
    """Raises ConfigError unless there is one for each."""
    if weights is not None and len(weights) != teachers:
        raise ConfigError(f'distill.teacher_weights={list(weights)} should be {teachers} numbers, one for '
                          f'each {each}')


def check_disk(folder: Path, needed: float, what: str, remedy: str) -> str:
    """Raises CkdError unless as many bytes as ``needed`` are free for ``folder``, which need not exist; the
    remedy says how to need less."""
    folder = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CkdError(f'{what} need {needed / 2**30:.2f} GiB and {folder} has {free / 2**30:.2f} GiB free; '
                       f'{remedy}, or choose another --work-dir')
    return f'{needed / 2**20:.1f} MiB needed, {free / 2**30:.0f} GiB free'
