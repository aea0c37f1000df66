"""What can be known of a training before it starts: device, metrics, images, network."""

import copy
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from torch import Tensor, nn

from ..compat import accelerator_available
from ..errors import ConfigError
from ..registry import METRICS as OUR_METRICS
from ..training import as_list, type_name, with_comparison
from ..trajectory import model_config_of
from .data_sets import image_shape
from .run import Run

if TYPE_CHECKING:
    from .training_stage import TrainingStage

ANY_TEACHER = dict(type='ckd_mm.SnapshotEnsemble', snapshots=['unknown yet'])


def check_device(name: str, config: Config) -> str:
    """
    Args:
        name: of the optim_wrapper in the config.
    """
    if accelerator_available():
        return torch.cuda.get_device_name() if torch.cuda.is_available() else 'accelerator'
    if type_name(config.get('optim_wrapper') or {}) == 'AmpOptimWrapper':
        raise ConfigError(f"{name}.type='AmpOptimWrapper' (--amp): mmengine's mixed precision needs an "
                          'accelerator and none is visible here. Leave --amp out')
    return 'CPU only'


def check_metrics(stage: 'TrainingStage', run: Run, config: Config) -> str:
    """All metrics are built: those of the student are first used after the teacher is trained."""
    from mmengine.registry import METRICS
    if not stage.key and run.settings.teacher is not None:
        config = with_comparison(copy.deepcopy(config), run.config, ANY_TEACHER)
    kinds = set()
    for key in ('val_evaluator', 'test_evaluator'):
        for metric in as_list(config.get(key)):
            name, kind = stage.setting(run, key), metric.get('type') if isinstance(metric, dict) else None
            if not isinstance(kind, (str, type)):
                raise ConfigError(f"{name}: {metric!r} should be a metric, dict(type='Accuracy'), or a list "
                                  'of them')
            try:
                METRICS.build(copy.deepcopy(metric))
            except Exception as error:  # an unknown type, a setting that it does not take or cannot use
                meant = f'; did you mean ckd_mm.{kind}?' if kind in OUR_METRICS.module_dict else ''
                raise ConfigError(f'{name}: {kind} cannot be built: {type(error).__name__}: {error}'
                                  f'{meant}') from error
            kinds.add(str(kind))
    return ', '.join(sorted(kinds)) or 'none'


def check_images(name: str, run: Run, config: Config) -> str:
    """The training set is listed and one image of it is read.

    Args:
        name: of the dataloader in the config.
    """
    dataset = run.data_set(config.train_dataloader.dataset, f'{name}.dataset')
    try:
        image_shape(dataset)
    except Exception as error:  # an unknown key of a transform, a damaged image, ...
        raise ConfigError(f'{name}.dataset cannot be read: {type(error).__name__}: {error}') from error
    return f'{len(dataset)} images'


def check_network(name: str, run: Run, config: Config) -> str:
    """It is built and classifies two images, which shows what its backbone and head return."""
    network = run.network(name, model_config_of(config))
    classes = number_of_classes(name, network, run)
    student = run.network('student', model_config_of(run.student_training()))
    wanted = number_of_classes('student', student, run)
    if None not in (classes, wanted) and classes != wanted:
        raise ConfigError(f'{name}.model.head.num_classes={classes} and model.head.num_classes={wanted} '
                          'should be equal')
    return f'{number_of_parameters(network):,} parameters, {classes} classes'


def number_of_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def number_of_classes(name: str, network: nn.Module, run: Run) -> int | None:
    """Number of its logits; without a test set, ``num_classes`` of its head."""
    dataset = run.test_set()
    if dataset is None:
        return getattr(getattr(network, 'head', None), 'num_classes', None)
    return logits_of_two_images(name, network, dataset).shape[1]


@torch.no_grad()
def logits_of_two_images(name: str, network: nn.Module, dataset: Any) -> Tensor:
    """Logits (2, C) of two images of the test set.

    Raises:
        ConfigError: the network returns none.
    """
    if not isinstance(getattr(network, 'head', None), nn.Module):
        raise ConfigError(f'the {name} network of type {type(network).__name__} has no `head` whose logits '
                          'could be distilled')
    try:
        batch = network.data_preprocessor(default_collate([dataset[0], dataset[len(dataset) // 2]]), False)
        logits = network(batch['inputs'], mode='tensor')
    except Exception as error:  # a wrong in_channels, an image too small for the strides, ...
        raise ConfigError(f'the {name} network fails on two images of the test set: {type(error).__name__}: '
                          f'{error}') from error
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(f'the head of the {name} network, {type(network.head).__name__}, should return '
                          f'logits (N, C); got {found}')
    return logits
