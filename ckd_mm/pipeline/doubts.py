"""What trains without an error, but hardly as it was meant."""

import contextlib
import importlib.util
import itertools
import warnings
from collections.abc import Iterator
from typing import Any

from mmengine.registry import MODEL_WRAPPERS
from mmengine.visualization.vis_backend import BaseVisBackend, LocalVisBackend, TensorboardVisBackend
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler

from ..errors import ConfigError
from ..validate import check_keys

DEFAULT_CONSTRUCTOR = 'DefaultOptimWrapperConstructor'
PARAMWISE = ('custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'dwconv_decay_mult',
             'flat_decay_mult', 'dcn_offset_lr_mult', 'bypass_duplicate')
SUFFIX = 'VisBackend'
RAW = 10  # images of 0 to 1, and normalised ones, do not go beyond


def of_images(loader: DataLoader, batch: dict, model: nn.Module) -> Iterator[str]:
    """
    Args:
        loader: of a training.
        batch: one of it.

    Raises:
        ConfigError: it has no images.
    """
    if 'inputs' not in batch:
        raise ConfigError('its batches have no `inputs`; end the pipeline of its data set with '
                          "dict(type='PackInputs')")
    if isinstance(loader.sampler, SequentialSampler) or getattr(loader.sampler, 'shuffle', True) is False:
        yield ('train_dataloader.sampler does not shuffle: each epoch has the images in the order of the '
               "files; take dict(type='DefaultSampler', shuffle=True)")
    mean, std = (getattr(model.data_preprocessor, name, None) for name in ('mean', 'std'))
    brightest = max(image.max().item() for image in batch['inputs'])
    if std is not None and std.max() < 1 and brightest > RAW:
        yield (f'data_preprocessor has mean={rounded(mean)} and std={rounded(std)}, which are of images of '
               f'0 to 1, and here they go up to {brightest:g}: give both times 255')


def of_parameters(wrapper: dict, optimizer: Any, model: nn.Module) -> Iterator[str]:
    """
    Args:
        wrapper: config, ``optim_wrapper``.
        optimizer: that was built from it.

    Raises:
        ConfigError: a key that mmengine's constructor does not read.
    """
    given = wrapper.get('paramwise_cfg') or {}
    if wrapper.get('constructor', DEFAULT_CONSTRUCTOR) != DEFAULT_CONSTRUCTOR or not given:
        return
    check_keys('paramwise_cfg', given, PARAMWISE)
    custom = given.get('custom_keys') or {}
    for key, own in custom.items():
        check_keys(f'paramwise_cfg.custom_keys[{key!r}]', own, ('lr_mult', 'decay_mult', *optimizer.defaults))
    if custom and not any(key in name for key in custom for name, _ in model.named_parameters()):
        yield (f'no parameter has any of the names in optim_wrapper.paramwise_cfg.custom_keys, '
               f'{list(custom)}; the first is {next(iter(model.named_parameters()))[0]}')


def leave_services_out(backends: dict[str, BaseVisBackend]) -> None:
    """Those of a visualizer that would begin a run on a server; in place."""
    for name, backend in list(backends.items()):
        if not isinstance(backend, (LocalVisBackend, TensorboardVisBackend)):
            require_service(backends.pop(name))


def require_service(backend: BaseVisBackend) -> None:
    """Raises ConfigError where one of mmengine's backends needs a package, of its own name, that is not
    installed. It would begin a run on a server to see."""
    kind = type(backend)
    package = kind.__name__.removesuffix(SUFFIX).lower()
    if kind.__module__ == BaseVisBackend.__module__ and importlib.util.find_spec(package) is None:
        raise ConfigError(f'{kind.__name__} needs {package}, which is not installed: pip install {package}, '
                          'or leave it out of vis_backends')


def require_end(loader: DataLoader) -> DataLoader:
    """Raises ConfigError where an epoch of a loader would never end."""
    if next(itertools.islice(loader.batch_sampler, len(loader), None), None) is not None:
        raise ConfigError(f'{type(loader.sampler).__name__} goes on after its {len(loader)} batches, so that '
                          "no epoch ends; take dict(type='DefaultSampler', shuffle=...)")
    return loader


def require_wrapper(config: dict | None) -> None:
    """Raises KeyError where no such wrapper is registered; only several processes build it."""
    kind = (config or {}).get('type')
    if isinstance(kind, str) and MODEL_WRAPPERS.get(kind) is None:
        raise KeyError(kind)


@contextlib.contextmanager
def listening(lines: list[str], who: str) -> Iterator[None]:
    """What is warned of meanwhile becomes lines."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always', UserWarning)
        yield
    lines.extend(f'{who}: {item.message}' for item in said if item.category is UserWarning)


def rounded(statistics: Tensor) -> list[float]:
    return [round(value, 4) for value in statistics.flatten().tolist()]
