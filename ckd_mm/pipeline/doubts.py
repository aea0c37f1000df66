"""What trains without an error, but hardly as it was meant."""

import contextlib
import importlib.util
import itertools
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from mmengine.visualization.vis_backend import BaseVisBackend, LocalVisBackend, TensorboardVisBackend
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler

from ..data.damaged import data_sets_in
from ..data.few_images import few_images
from ..errors import ConfigError
from ..training import unwrap
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
    if getattr(model.data_preprocessor, 'batch_augments', None) and not model.data_preprocessor.to_onehot:
        yield 'batch augmentations change nothing without data_preprocessor.to_onehot=True'
    mean, std = (getattr(model.data_preprocessor, name, None) for name in ('mean', 'std'))
    brightest = max(image.max().item() for image in batch['inputs'])
    if std is not None and std.min() > RAW and brightest <= RAW:
        yield (f'data_preprocessor has mean={rounded(mean)} and std={rounded(std)}, which are of images of 0 '
               f'to 255, and here they go up to {brightest:.3g}: leave out the transform that scales them')
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
    if not any(group['lr'] and any(value.requires_grad for value in group['params'])
               for group in optimizer.param_groups):
        yield 'nothing is learnt: each parameter is frozen or has a learning rate of 0'
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


def of_unvalidated(parts: Iterable[Any]) -> Iterator[str]:
    """Hooks and schedulers of a training without a validation."""
    for part in parts:
        if metric := getattr(part, 'monitor', None) or getattr(part, 'save_best', None):
            yield (f'{type(part).__name__} waits for {metric} in vain, nothing is validated; give '
                   'val_dataloader, val_evaluator and val_cfg, and a train_cfg.val_begin that is reached')


def parts_of_training(loop: Any) -> list[Any]:
    """What hooks of a loop may replace: modules, augmentations of batches, pipelines of images."""
    model = unwrap(loop.runner.model)
    return [*model.modules(), getattr(model.data_preprocessor, 'batch_augments', None),
            *(getattr(dataset, 'pipeline', None) for dataset in data_sets_in(loop.dataloader.dataset))]


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


def of_evaluation(name: str, loader: DataLoader) -> Iterator[str]:
    """``name`` is that of the loader in the config."""
    if left_out := loader.drop_last and len(loader.dataset) % loader.batch_size:
        yield f'{name}.drop_last=True leaves {left_out} of {len(loader.dataset)} images out of the evaluation'
    batches = [next(iter(few_images(loader))) for _ in range(2)]
    if not all(map(torch.equal, *(batch.get('inputs', ()) for batch in batches))):
        yield f'{name}.dataset.pipeline is random: no two evaluations are of the same images'


def require_end(loader: DataLoader, ends: bool = True) -> DataLoader:
    """Raises ConfigError where an epoch of a loader has no batch, or would never end.

    Args:
        ends: whether it has to.
    """
    if len(loader) == 0:
        raise ConfigError(f'it has no batch: {len(loader.dataset)} images, batch_size={loader.batch_size} '
                          f'and drop_last={loader.drop_last}; lower batch_size, or set drop_last=False')
    if ends and next(itertools.islice(loader.batch_sampler, len(loader), None), None) is not None:
        raise ConfigError(f'{type(loader.sampler).__name__} goes on after its {len(loader)} batches, so that '
                          "no epoch ends; take dict(type='DefaultSampler', shuffle=...)")
    return loader


@contextlib.contextmanager
def listening(lines: list[str], who: str) -> Iterator[None]:
    """What is warned of meanwhile becomes lines."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always', UserWarning)
        yield
    lines.extend(f'{who}: {item.message}' for item in said if item.category is UserWarning)


def rounded(statistics: Tensor) -> list[float]:
    return [round(value, 4) for value in statistics.flatten().tolist()]
