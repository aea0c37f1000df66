"""What is wrong with an mmrazor distiller, known before anything is trained."""

import copy
import difflib
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..compat import require_mmrazor
from ..errors import ConfigError, in_a_line
from ..pipeline.data_sets import image_shape
from ..pipeline.run import Run
from ..pipeline.stage import TeachingStage
from ..students.taught_student import build_distiller
from ..teachers import BaseCohort, build_cohort
from ..training import as_list
from ..trajectory import model_config_of

# mmrazor's losses would let torch repeat the smaller of two tensors: the first dimension that must be equal
EQUAL_FROM = dict(ATLoss=2, L1Loss=0, L2Loss=0, ABLoss=0)


def check_stage(key: str, distiller: dict, teachers: TeachingStage, run: Run, config: Config) -> str:
    """Before the rehearsal of a student that ``distiller`` distils: of what is wrong mmrazor says little.

    Args:
        key: of the config, where the distiller is.
        teachers: the stage before it.
        run: a rehearsal.
        config: of the student's training.

    Returns, Raises: see :func:`check_distiller`.
    """
    images = run.data_set(config.train_dataloader.dataset, 'train_dataloader.dataset')
    network = run.network('student', model_config_of(config))
    return check_distiller(network, build_cohort(teachers.cohort(run)), distiller,
                           torch.rand(2, *image_shape(images)), key)


@torch.no_grad()
def check_distiller(student: nn.Module, cohort: BaseCohort, distiller: dict, inputs: Tensor,
                    key: str = 'distill.distiller') -> str:
    """Record, connect and compare once, on copies: no weight, no statistic and no random state changes.

    Args:
        student: mmpretrain classifier.
        distiller: config of an mmrazor ``ConfigurableDistiller``.
        inputs: two images as the data preprocessor leaves them, (2, 3, H, W).
        key: of the config, where the distiller is.

    Returns:
        The losses, for a log.

    Raises:
        ConfigError: a loss, connector or recorder does not exist, a source is no layer of its network, or
            what the layers give does not fit a connector or a loss.
        EnvironmentConflict: mmrazor is missing.
    """
    if not isinstance(distiller, dict) or 'type' not in distiller:
        raise ConfigError(f"{key}={distiller!r} should be a dict, type='mmrazor.ConfigurableDistiller' and "
                          "its settings")
    require_mmrazor(f'{key}={distiller["type"]}')
    with torch.random.fork_rng(devices=[]):
        _check_parts(distiller, key)
        try:
            built = build_distiller(distiller)
        except Exception as error:  # mmrazor asserts
            raise ConfigError(f'{key} cannot be built: {in_a_line(error)}') from error
        networks = dict(student=copy.deepcopy(student).eval(), teacher=copy.deepcopy(cohort).freeze())
        for role, network in networks.items():
            _prepare(getattr(built, f'{role}_recorders'), network, f'{key}.{role}_recorders')
        with built.teacher_recorders:
            networks['teacher'](inputs)
        with built.student_recorders:
            networks['student'](inputs, [DataSample().set_gt_label(0) for _ in inputs], mode='loss')
        if type(built).__name__ != 'ConfigurableDistiller':
            return type(built).__name__  # others have rules of their own
        for name in built.distill_losses or ['distill_losses']:
            if name not in built.loss_forward_mappings:
                raise ConfigError(f'{key}: {name} is never computed: say in loss_forward_mappings what each '
                                  'loss compares')
            _compute(built, name, key)
        return ', '.join(f'{name} ({type(loss).__name__})' for name, loss in built.distill_losses.items())


def _check_parts(distiller: dict, key: str) -> None:
    """Build one part after another, so that a message can name it."""
    from mmrazor.registry import MODELS, TASK_UTILS
    with DefaultScope.overwrite_default_scope(distiller.get('_scope_', 'mmrazor')):
        for group, registry, suffix in (
                ('student_recorders', TASK_UTILS, 'Recorder'), ('teacher_recorders', TASK_UTILS, 'Recorder'),
                ('connectors', MODELS, ''), ('distill_losses', MODELS, '')):
            parts = [(name, part) for name, config in (distiller.get(group) or {}).items()
                     for part in as_list(config)]
            for name, part in parts:
                kind = f'{part.get("type")}{suffix}' if isinstance(part, dict) else str(part)
                if registry.get(kind) is None:
                    known = [item.removesuffix(suffix) for item in registry.module_dict]
                    raise ConfigError(f'{key}.{group}.{name}: {part!r} has no type that mmrazor knows'
                                      f'{_meant(kind.removesuffix(suffix), known)}')
                try:
                    registry.build(dict(copy.deepcopy(part), type=kind))
                except Exception as error:  # whatever a constructor says
                    raise ConfigError(
                        f'{key}.{group}.{name}: {kind} cannot be built: {in_a_line(error)}') from error


def _prepare(recorders: Any, network: nn.Module, key: str) -> None:
    """Put hooks into a network."""
    for name, recorder in recorders.recorders.items():
        try:
            recorder.initialize(network)
        except AssertionError as error:  # a method or function was looked up when the recorder was built
            layers = [layer for layer, _ in [*network.named_modules(), *network.named_parameters()]]
            raise ConfigError(f'{key}.{name}: source={recorder.source!r} is no layer of the network'
                              f'{_meant(recorder.source, layers)}') from error


def _compute(distiller: nn.Module, name: str, key: str) -> None:
    """A loss, from what was recorded."""
    loss, given, gives = distiller.distill_losses[name], {}, []
    kind, equal_from = type(loss).__name__, EQUAL_FROM.get(type(loss).__name__)
    for argument, record in distiller.loss_forward_mappings[name].items():
        role = 'student' if record['from_student'] else 'teacher'
        recorder = getattr(distiller, f'{role}_recorders').get_recorder(record['recorder'])
        where = f'{recorder.source!r} of the {role}'
        try:
            given[argument] = distiller.get_record(**record)
        except Exception as error:  # an index that is too high, a connector that takes other features, ...
            found = ' and '.join(map(_shape, recorder.data_buffer))
            raise ConfigError(f'{key}: {name}: {where} gives {found}, which does not fit {record}: '
                              f'{in_a_line(error)}') from error
        through = f' through {record["connector"]!r}' if record.get('connector') else ''
        gives.append(f'{where}{through} gives {_shape(given[argument])}')
    if equal_from is not None:
        shapes = {value.shape[equal_from:] for value in given.values() if isinstance(value, Tensor)}
        if len(shapes) > 1 or shapes == {torch.Size()}:
            what = 'maps (N, C, H, W) of one height and width' if equal_from else 'features of one shape'
            raise ConfigError(f'{key}: {name}: {", ".join(gives)}: {kind} compares {what}; choose other '
                              'layers, or a connector that makes the one out of the other')
    try:
        loss(**given)
    except Exception as error:
        raise ConfigError(
            f'{key}: {name}: {", ".join(gives)}, which {kind} cannot compare: {in_a_line(error)}') from error


def _shape(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f'a {type(value).__name__} of {", ".join(map(_shape, value))} (data_idx chooses one)'
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f'a {type(value).__name__}'


def _meant(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=3)
    return f'; did you mean {" or ".join(close)}?' if close else ''
