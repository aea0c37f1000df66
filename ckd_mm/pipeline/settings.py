"""The keys of a distillation config.

The config *is* the student's; beside it stand the keys of :data:`OWN_KEYS`:

``teacher``
    ``model``: the teacher network, or the file that describes it
    (:func:`ckd_mm.pipeline.model_files.resolve_model_files`), ``snapshots``: when to keep it
    (:func:`ckd_mm.trajectory.snapshot_epochs`), and any mmengine key to train it otherwise than the student,
    merged over the student's as a derived config would be. Or ``trajectory``: a folder (or several) of
    snapshots that exist already; then nothing is trained. A selector that wants several trainings
    (``ensemble``) gets them, with seeds ``randomness.seed``, ``randomness.seed + 1``, ... A teacher of the
    student's own network has a seed 1000 higher, lest both begin with the same weights. None: there is no
    teacher; the student is trained by its own loss, and the run ends with the same table and page.
``peer``
    Instead of ``teacher``: ``model``, a network that learns together with the student (deep mutual learning).
``probe``
    Settings of :class:`ckd_mm.infoplane.probe.Probe`; None to leave the information plane out.
``selector``
    Name or config of a selector.
``heads``
    Classifier heads on the chosen snapshot's stages (DIH): ``out_indices``, ``kind``, ``grid`` of
    :class:`ckd_mm.teachers.HeadTraining`, and any mmengine key to train them otherwise than the teacher; or
    ``file``, the ``heads.pth`` of an earlier run. ``use``: which of them teach, and whether the teacher
    itself does (:class:`ckd_mm.teachers.DIHTeacher`).
``hint``
    A first stage of the student (FitNets): ``distiller``, and any mmengine key to train it otherwise than the
    student.
``assistants``
    Networks between teacher and student (TAKD, step-wise distillation), each with its ``model`` and any
    mmengine key to train it otherwise than the student; each learns from the one before. The n-th has the
    seed ``randomness.seed + 100 n``.
``generations``
    How often the student's network is trained (sequential KD, born-again networks): the n-th generation, with
    the seed ``randomness.seed + n``, learns from the one before, the first from the teacher or the last
    assistant.
``distill``
    ``tau``, ``aggregation``, ``teacher_weights``, ``standardize``, or instead of them ``loss``, another loss
    of logits; ``ce_weight``, ``kd_weight``, ``reduction``, ``stop_epoch``, ``schedule``,
    ``ce_weight_after_stop``, ``distiller``, ``cache``. ``schedule`` is a hook or a list of
    hooks, by name: ``dict(type='ckd_mm.AnnealDistillationHook', begin=10, end=60)``,
    ``ckd_mm.StopWhenOvertakenHook``, ``ckd_mm.ProgressiveTeacherHook`` (the chosen snapshots teach one after
    another); ``stop_epoch=e`` is short for ``ckd_mm.StopDistillationHook``. ``cache=dict(views=K)``: the
    teachers are asked once about each training image in K views, before the student's training, which then
    needs no teacher and costs the same however many they are; epoch e shows view e mod K. A view is a
    replayable augmentation (:class:`ckd_mm.data.Views`, which is put around the training set, with a seed of
    its own, 0, so that students of several seeds can share the targets; the student alone sees the same
    views). ``dtype``: 'float32' or 'float16'; ``top_k``: only so many classes and what is left
    (:class:`ckd_mm.targets.Layout`); ``file``: the folder ``targets`` of an earlier run with the same
    teachers, loss and images. In float32 the student is that of the run that asks the same teachers in every
    step, bit for bit, on the same kind of machine: without ``cache``, with
    ``train_dataloader.dataset=dict(type='ckd_mm.Views', seed=0, dataset=...)`` and
    ``train_dataloader.sampler=dict(type='ckd_mm.ViewSampler', views=K)``. (A teacher that is trained in that
    run would see views too, and be another; name it with ``teacher.trajectory``.) Every link of a chain has
    targets of its own.
``student_alone``
    Also train the student without a teacher, for comparison; a number: so many students, with seeds
    ``randomness.seed``, ``randomness.seed + 1``, ..., and their ensemble.
``student_snapshots``
    When to keep the student while it learns, in the words of ``teacher.snapshots``:
    ``student/trajectory.json`` and, of the student without a teacher, ``student_alone/trajectory.json``.
"""

import copy
import difflib
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from ..errors import ConfigError

OWN_KEYS = ('runner_type', 'teacher', 'peer', 'probe', 'selector', 'heads', 'hint', 'assistants',
            'generations', 'distill', 'student_alone', 'student_snapshots')
METHOD_KEYS = (
    'heads', 'hint', 'assistants', 'generations')  # what stands between the chosen snapshots and the student
RUNNER_KEYS = ('train_dataloader', 'val_dataloader', 'train_cfg', 'val_cfg', 'optim_wrapper',
               'param_scheduler', 'val_evaluator', 'default_hooks', 'custom_hooks', 'data_preprocessor',
               'load_from', 'randomness', 'auto_scale_lr', 'sync_bn', 'find_unused_parameters',
               'model_wrapper_cfg', 'compile', 'log_processor', 'env_cfg')
# mmengine deletes the old checkpoint before it writes the new one: with 1 a kill in between loses both
KEPT_CHECKPOINTS = 2


def require_known(name: str, found: Any, allowed: Sequence[str]) -> None:
    """
    Raises:
        ConfigError: ``found`` is no dict, or has a key that means nothing.
    """
    if not isinstance(found, dict):
        raise ConfigError(f'{name}={found!r} should be a dict with keys of {", ".join(allowed)}')
    unknown = [key for key in found if key not in allowed and not key.startswith('_')]
    if unknown:
        meant = difflib.get_close_matches(unknown[0], allowed, n=1)
        raise ConfigError(f'{name}: unknown key {unknown[0]!r}; ' +
                          (f'did you mean {meant[0]!r}? Known' if meant else 'known') +
                          f' are {", ".join(allowed)}')


def require_no_misspelled(config: Config) -> None:
    """A config may hold any names of its own, but hardly ``assistents``.

    Raises:
        ConfigError: a key looks like one of :data:`OWN_KEYS`.
    """
    for key in config:
        meant = difflib.get_close_matches(key, OWN_KEYS, n=1, cutoff=0.8)
        if meant and key not in OWN_KEYS:
            raise ConfigError(f'{key} is no key of a distillation config; did you mean {meant[0]}?')


def whole_number(name: str, value: Any, least: int) -> int:
    """
    Raises:
        ConfigError: it is none, or too small.
    """
    if type(value) is not int or value < least:
        raise ConfigError(f'{name}={value!r} should be a whole number, at least {least}')
    return value


def merged(config: Config, changes: dict) -> Config:
    """``config`` with other training settings, each merged over its own as a derived config would; ``model``
    is replaced.

    Args:
        changes: keys that are neither ``model`` nor of :data:`RUNNER_KEYS` are left out.
    """
    result = copy.deepcopy(config)
    for key, value in changes.items():
        if key == 'model':
            result.model = copy.deepcopy(value)
        elif key not in RUNNER_KEYS:
            continue
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result.merge_from_dict({key: copy.deepcopy(value)})
        else:
            result[key] = copy.deepcopy(value)
    return result


def changes_of(config: dict) -> dict[str, dict]:
    """What the config's other stages say otherwise than the student: name of the key, and its dict."""
    found = {name: config.get(name) for name in ('teacher', 'heads', 'hint')}
    found.update({
        f'assistants[{index}]': changes
        for index, changes in enumerate(as_list(config.get('assistants')))
    })
    return {name: changes for name, changes in found.items() if isinstance(changes, dict)}


def with_seed(config: Config, shift: int) -> Config:
    """``config`` with the seed ``shift`` higher, if it has one; in place."""
    if shift and (config.get('randomness') or {}).get('seed') is not None:
        config.randomness = ConfigDict(config.randomness, seed=config.randomness.seed + shift)
    return config


def type_name(item: Any) -> str:
    """Name of what a config (of a hook, a metric, ...) builds, or of what is built already, without its
    scope. Configs in pure Python have
    classes and functions in ``type``."""
    kind = item.get('type') if isinstance(item, dict) else type(item)
    return getattr(kind, '__name__', str(kind)).split('.')[-1]


def as_list(value: Any) -> list:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
