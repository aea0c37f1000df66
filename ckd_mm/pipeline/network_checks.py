"""What can be known of a training before it starts: device and network."""

from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from torch import Tensor, nn

from ..compat import accelerator_available
from ..errors import ConfigError, in_a_line
from ..training import type_name
from ..trajectory import model_config_of
from .run import Run


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
        raise ConfigError(f'the {name} network fails on two images of the test set: '
                          f'{in_a_line(error)}') from error
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ConfigError(f'the head of the {name} network, {type(network.head).__name__}, should return '
                          f'logits (N, C); got {found}')
    return logits
