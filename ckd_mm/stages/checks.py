"""Checks that several stages make before anything is trained."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import CkdError, ConfigError
from ..evaluation.teacher_check import (
    ValidationImages,
    check_teacher,
    percent,
    recorded,
    recorded_answers,
    require_above_chance,
    require_recorded,
)
from ..files import nearest_folder
from ..hooks.schedule_hook import schedule_names
from ..pipeline.run import Run
from ..teachers.class_map import ClassMap
from ..training import type_name
from ..trajectory import Snapshot, model_config_of


def check_no_own_hook(name: str, hook: Any) -> None:
    """Raises ConfigError if the stages of a run add such a hook themselves."""
    kind = type_name(hook)
    if kind in schedule_names():
        raise ConfigError(f'{name}: {kind} belongs into distill.schedule; every stage would inherit it')
    if kind == 'SnapshotHook' or (kind == 'InfoPlaneHook' and name == 'custom_hooks'):
        raise ConfigError(f'{name}: {kind} stands for what `teacher.snapshots` and `probe` ask for in this '
                          'config, and every stage would inherit it; take it out')


def check_predictions(run: Run, snapshots: Sequence[Snapshot], given: bool = True,
                      surely: bool = True, others: Sequence[Snapshot] = (),
                      class_map: Sequence[str | None] | None = None) -> str:
    """What teachers say of validation images fits the labels and what their manifests record.

    Args:
        others: of the same trajectories, which may be chosen, too: of some images their logits are finite.
        given: they were not trained by this run, so that their images and classes may be others.
        surely: they will teach.
        class_map: where the teachers have other classes, see :class:`ckd_mm.teachers.class_map.ClassMap`.

    Raises:
        SnapshotError: naming the snapshot and what is wrong.
    """
    config = run.student_training()
    loader = config.get('val_dataloader') or config.get('test_dataloader')
    if loader is None:
        return 'no validation images to look at'
    images = ValidationImages(run.data_set(loader['dataset'], 'val_dataloader.dataset'), log=run.log,
                              class_map=ClassMap.of(class_map))
    if not len(images):
        return 'no validation image has one label'
    statistics, found = model_config_of(config).get('data_preprocessor'), []
    for snapshot in snapshots:
        if given:
            answers = check_teacher(snapshot, images, statistics, run.warn)
        else:
            answers = recorded_answers(snapshot, images, images.network(snapshot))
            require_recorded(snapshot, answers)
        found.append((snapshot, answers))
    for snapshot in others:
        recorded_answers(snapshot, images, images.network(snapshot), batches=1)
    require_above_chance(found, run.warn, surely and given)
    return ', '.join(
        f'{snapshot.when} is right on {percent(answers.accuracy)}{recorded(snapshot)}'
        for snapshot, answers in found) + f' of {len(images)} validation images'


def check_teacher_weights(weights: Sequence[float] | None, teachers: int) -> None:
    """Raises ConfigError unless there is one for each."""
    if weights is not None and len(weights) != teachers:
        raise ConfigError(f'distill.teacher_weights={list(weights)} should be {teachers} numbers, one for '
                          'each teacher')


def check_disk(folder: Path, needed: float, what: str, remedy: str) -> str:
    """Raises CkdError unless as many bytes as ``needed`` are free for ``folder``, which need not exist; the
    remedy says how to need less."""
    folder = nearest_folder(folder)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CkdError(f'{what} need {needed / 2**30:.2f} GiB and {folder} has {free / 2**30:.2f} GiB free; '
                       f'{remedy}, or choose another --work-dir')
    return f'{needed / 2**20:.1f} MiB needed, {free / 2**30:.0f} GiB free'
