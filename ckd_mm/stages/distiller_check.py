"""What is wrong with an mmrazor distiller, known before anything is trained."""

import copy
import difflib
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ..compat import require_mmrazor
from ..errors import ConfigError
from ..pipeline.data_sets import image_shape
from ..pipeline.stage import Check
from ..students.taught_student import build_distiller
from ..teachers import BaseCohort
from ..trajectory import model_config_of

# mmrazor's losses that torch would let compare features of different shapes, by repeating the smaller
MAP_LOSSES = {'ATLoss': 'attention transfer'}
SHAPE_LOSSES = ('L1Loss', 'L2Loss', 'ABLoss')


@torch.no_grad()
def check_distiller(student: nn.Module, teacher: nn.Module, distiller: dict, inputs: Tensor,
                    data_samples: list | None = None, key: str = 'distill.distiller') -> str:
    """Record, connect and compare once, on copies: no weight, no statistic and no random state changes.

    Args:
        student: mmpretrain classifier.
        teacher: a cohort, or a network, which is then ``networks.0`` of a cohort of one.
        distiller: config of an mmrazor ``ConfigurableDistiller``.
        inputs: two images as the data preprocessor leaves them, (2, 3, H, W).
        data_samples: theirs, with labels; default: both of class 0.
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
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f'{key} cannot be built: {_one_line(error)}') from error
        networks = dict(student=copy.deepcopy(student).eval(), teacher=_cohort_of(copy.deepcopy(teacher)))
        for role, network in networks.items():
            _check_sources(distiller.get(f'{role}_recorders') or {}, network, f'{key}.{role}_recorders', role)
            getattr(built, f'prepare_from_{role}')(network)
        with built.teacher_recorders:
            networks['teacher'](inputs)
        with built.student_recorders:
            networks['student'](inputs, data_samples or _of_class_0(inputs), mode='loss')
        if type(built).__name__ != 'ConfigurableDistiller':
            return type(built).__name__  # others have rules of their own
        unused = [name for name in built.distill_losses if name not in built.loss_forward_mappings]
        if unused or not built.distill_losses:
            raise ConfigError(f'{key}: {unused[0] if unused else "distill_losses"} is never computed: say in '
                              'loss_forward_mappings what each loss compares')
        for name, mapping in built.loss_forward_mappings.items():
            _check_loss(built, name, mapping, key)
        return ', '.join(f'{name} ({type(loss).__name__})' for name, loss in built.distill_losses.items())


def _check_parts(distiller: dict, key: str) -> None:
    """One by one, so that the message can name the part."""
    from mmrazor.registry import MODELS, TASK_UTILS
    with DefaultScope.overwrite_default_scope(distiller.get('_scope_', 'mmrazor')):
        for group in ('student_recorders', 'teacher_recorders', 'connectors', 'distill_losses'):
            recorders = group.endswith('recorders')
            registry, suffix = (TASK_UTILS, 'Recorder') if recorders else (MODELS, '')
            for name, config in (distiller.get(group) or {}).items():
                for part in config if isinstance(config, (list, tuple)) else [config]:
                    kind = f'{part.get("type")}{suffix}' if isinstance(part, dict) else None
                    if kind is None or registry.get(kind) is None:
                        known = [
                            item[:len(item) - len(suffix)] for item in registry.module_dict
                            if item.endswith(suffix or 'Loss')
                        ]
                        raise ConfigError(f'{key}.{group}.{name}: {part!r} has no type that mmrazor knows' +
                                          _meant(str(kind)[:len(str(kind)) - len(suffix)], known))
                    try:
                        registry.build(dict(copy.deepcopy(part), type=kind))
                    except Exception as error:  # whatever a constructor says, the user needs to know whose
                        raise ConfigError(
                            f'{key}.{group}.{name}: {kind} cannot be built: {_one_line(error)}') from error


def _check_sources(recorders: dict, network: nn.Module, key: str, role: str) -> None:
    for name, recorder in recorders.items():
        kind = recorder['type'].split('.')[-1]
        if kind in ('ModuleOutputs', 'ModuleInputs'):
            known = [found for found, _ in network.named_modules()]
        elif kind == 'Parameter':
            known = [found for found, _ in network.named_parameters()]
        else:
            continue  # a method or function, which was looked up when the recorder was built
        if recorder['source'] not in known:
            raise ConfigError(f"{key}.{name}: source='{recorder['source']}' is no layer of the {role}" +
                              _meant(recorder['source'], known))


def _check_loss(distiller: nn.Module, name: str, mapping: dict[str, dict], key: str) -> None:
    loss, values, given = distiller.distill_losses[name], {}, {}
    kind = type(loss).__name__
    for argument, record in mapping.items():
        value, where = _recorded(distiller, record, f'{key}: {name}')
        connector = record.get('connector')
        if connector is not None:
            try:
                value = distiller.connectors[connector](value)
            except Exception as error:  # torch, mmcv and mmrazor each raise what they like
                raise ConfigError(f'{key}: {name}: {where} gives {_shape(value)}, which the connector '
                                  f'{connector!r} cannot take: {_one_line(error)}') from error
            where += f' through {connector!r}'
        if record.get('connector_idx') is not None:
            value = value[record['connector_idx']]
        values[argument], given[where] = value, value
    tensors = [value for value in values.values() if isinstance(value, torch.Tensor)]
    if kind in MAP_LOSSES:
        if any(value.dim() != 4 for value in tensors) or len(tensors) != len(values):
            raise ConfigError(f'{key}: {name}: {_listed(given)}: {MAP_LOSSES[kind]} needs feature maps (N, '
                              'C, H, W)')
        if len({value.shape[2:] for value in tensors}) > 1:
            sizes = ', '.join(
                f'{where} gives {value.shape[2]}x{value.shape[3]} maps' for where, value in given.items())
            raise ConfigError(f'{key}: {name}: {sizes}: {MAP_LOSSES[kind]} compares maps of one size; choose '
                              'stages of one size')
    if kind in SHAPE_LOSSES and len({value.shape for value in tensors}) > 1:
        raise ConfigError(f'{key}: {name}: {_listed(given)}: {kind} compares features of one shape; choose '
                          'other layers, or a connector that makes the one out of the other')
    try:
        loss(**values)
    except Exception as error:
        raise ConfigError(
            f'{key}: {name}: {_listed(given)}, which {kind} cannot compare: {_one_line(error)}') from error


def _recorded(distiller: nn.Module, record: dict, key: str):
    """What a recorder has for a loss, and in words where it comes from."""
    role = 'student' if record['from_student'] else 'teacher'
    recorder = getattr(distiller, f'{role}_recorders').get_recorder(record['recorder'])
    where, index = f'{recorder.source!r} of the {role}', record.get('record_idx', 0)
    if index >= len(recorder.data_buffer):
        raise ConfigError(f'{key}: {where} ran {len(recorder.data_buffer)} times in a step, so there is no '
                          f'record_idx={index}')
    value, data_idx = recorder.data_buffer[index], record.get('data_idx')
    if data_idx is None:
        return value, where
    if not isinstance(value, (list, tuple)) or data_idx >= len(value):
        raise ConfigError(f'{key}: {where} gives {_shape(value)}, so there is no data_idx={data_idx}')
    return value[data_idx], f'{where}, data_idx={data_idx},'


class CohortOfOne(BaseCohort):
    """A network where a :class:`ckd_mm.teachers.SnapshotEnsemble` has it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.networks = nn.ModuleList([network])

    def member_logits(self, inputs: Tensor) -> list[Tensor]:
        return [self.networks[0](inputs, mode='tensor')]


def _cohort_of(teacher: nn.Module) -> BaseCohort:
    return (teacher if isinstance(teacher, BaseCohort) else CohortOfOne(teacher)).freeze()


def _of_class_0(inputs: Tensor) -> list:
    from mmpretrain.structures import DataSample
    return [DataSample().set_gt_label(0).to(inputs.device) for _ in inputs]


def _listed(given: dict[str, Any]) -> str:
    return ', '.join(f'{where} gives {_shape(value)}' for where, value in given.items())


def _shape(value) -> str:
    if isinstance(value, torch.Tensor):
        return str(tuple(value.shape))
    if isinstance(value, (list, tuple)):
        parts = ', '.join(map(_shape, value))
        return f'a {type(value).__name__} of {parts}; data_idx chooses one of them'
    return f'a {type(value).__name__}'


def _meant(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=3)
    return f'; did you mean {" or ".join(close)}?' if close else ''


def _one_line(error: Exception) -> str:
    return f'{type(error).__name__}: {" ".join(str(error).split())}'


def distiller_checks(key: str, distiller: dict, teachers: Any, run: Any, config: Any) -> Iterator[Check]:
    """Of a stage whose student is distilled by ``distiller``.

    Args:
        key: of the config, where the distiller is.
        teachers: the :class:`ckd_mm.pipeline.stage.TeachingStage` before it.
        config: of the student's training.
    """

    def features() -> str:
        images = run.data_set(config.train_dataloader.dataset, 'train_dataloader.dataset')
        network = run.network('student', model_config_of(config))
        return check_distiller(network, teachers.example(run), distiller, torch.rand(2, *image_shape(images)),
                               key=key)

    yield Check('mmrazor', lambda: 'mmrazor ' + require_mmrazor(f'{key}={distiller.get("type")}').__version__)
    yield Check('features', features)
