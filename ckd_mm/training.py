"""Functions on the configs and models of trainings."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.config.config import DELETE_KEY
from mmengine.model import is_model_wrapper
from torch import nn

from .counting import EPOCH, EXAMPLES, ITER, WORDS, unit_of
from .errors import ConfigError, reading
from .infoplane.images import held_out_part
from .infoplane.probe import Probe
from .settings import RUNNER_KEYS, NetworkSettings

RESULT_KEYS = ('model', 'data_preprocessor', 'train_dataloader', 'train_cfg', 'optim_wrapper',
               'param_scheduler', 'custom_hooks', 'randomness', 'auto_scale_lr', 'sync_bn', 'val_cfg',
               'val_dataloader')
COMPARING = ('KDMetric', 'TrainAgreementHook')  # metrics and hooks that compare a student with its teachers


def apply_overrides(config: Config, overrides: dict[str, Any], name: str = '') -> Config:
    """``config`` with those of the overrides that are ``model``, which is replaced, or of
    :data:`RUNNER_KEYS`, each merged over its own as in a derived config, ``_delete_`` included. A dict over a
    list replaces it, unless its keys count items.

    Args:
        name: of the dict of overrides in the whole config, for messages.

    Raises:
        ConfigError: an override does not fit over what it inherits, leaves nothing to train, or counts
            iterations where the others count epochs.
    """
    result = copy.deepcopy(config)
    for key, given in overrides.items():
        if key not in RUNNER_KEYS and (key != 'model' or given is None):
            continue
        value = copy.deepcopy(given)
        own = result.get(key) if key != 'model' else None
        counts = isinstance(own, list) and value and all(str(item).isdigit() for item in value)
        if isinstance(value, dict) and (isinstance(own, dict) or counts):
            with reading(f'{name}.{key} does not fit over what it inherits'.lstrip('.')):
                result.merge_from_dict({key: value})
        else:
            result[key] = value
        result[key] = _without_delete(result[key])
    require_trainable(name, result)
    if (unit := unit_of(result.train_cfg)) != (others := unit_of(config.train_cfg)):
        raise ConfigError(f'{name}.train_cfg counts {WORDS[unit]}s and train_cfg {WORDS[others]}s: all '
                          f'trainings of a run count the same. Give {name}.train_cfg=dict(_delete_=True, '
                          f'{EXAMPLES[others]}), or train_cfg=dict({EXAMPLES[unit]})')
    return result


def _without_delete(value: Any) -> Any:
    """mmengine leaves ``_delete_`` in dicts that had nothing to delete, and none of its builders knows it."""
    if isinstance(value, dict):
        return type(value)({key: _without_delete(item) for key, item in value.items() if key != DELETE_KEY})
    return [_without_delete(item) for item in value] if isinstance(value, list) else value


def shift_seed(config: Config, shift: int) -> Config:
    """``config`` with the seed ``shift`` higher, if it has one; in place."""
    if shift and (config.get('randomness') or {}).get('seed') is not None:
        config.randomness = ConfigDict(config.randomness, seed=config.randomness.seed + shift)
    return config


def exclude_held_out(config: Config, probe: Probe | None) -> Config:
    """``config``, trained without the images that ``probe`` holds out, if it is given; in place."""
    if probe is not None:
        config.train_dataloader.dataset = ConfigDict(
            held_out_part(config.train_dataloader.dataset, probe.held_out, probe.seed, 'rest'))
    return config


def result_settings(config: Config, own_keys: Iterable[str] = ()) -> dict[str, Any]:
    """What the result of a training depends on; with the keys of a whole run that are not mmengine's, what
    the outcome of the run depends on."""
    return {key: config[key] for key in (*RESULT_KEYS, *own_keys) if config.get(key) is not None}


def overrides_of(config: dict) -> dict[str, dict]:
    """The dicts of a whole config that override the student's training for a stage, by their names."""
    found = {name: config.get(name) for name in ('teacher', 'heads', 'hint')}
    found |= {f'assistants[{index}]': item for index, item in enumerate(as_list(config.get('assistants')))}
    return {name: item for name, item in found.items() if isinstance(item, dict)}


def unscaled_batch(config: dict, processes: int) -> tuple[int, int] | None:
    """Images a step of a training, and how many its learning rate is for (``auto_scale_lr``); None if they
    are equal, unknown, or the learning rate is scaled."""
    scaling, loader = (config.get(key) or {} for key in ('auto_scale_lr', 'train_dataloader'))
    images, wanted = loader.get('batch_size'), scaling.get('base_batch_size')
    if None in (wanted, images) or scaling.get('enable'):
        return None
    images *= processes * (config.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    return None if images == wanted else (images, wanted)


# ------------------------------------------------------------ before anything is trained
def require_trainable(name: str, config: Any) -> None:
    """
    Args:
        name: of the dict that overrides the student's training; '' for the student.

    Raises:
        ConfigError: a training lacks what it needs, or parts of it count epochs and others iterations.
    """
    prefix, loop = f'{name}.'.lstrip('.'), config.get('train_cfg') or {}
    unit, other = (EPOCH, ITER) if unit_of(loop) == EPOCH else (ITER, EPOCH)
    if (value := loop.get(f'max_{other}s')) is not None:
        raise ConfigError(f'{prefix}train_cfg.max_{other}s={value!r} counts {WORDS[other]}s, and the rest of '
                          f'{prefix}train_cfg {WORDS[unit]}s: give {prefix}train_cfg=dict(_delete_=True, '
                          f'{EXAMPLES[unit]}), or dict(_delete_=True, {EXAMPLES[other]})')
    for key, example in {'model': NetworkSettings.example, 'train_dataloader.dataset': 'dict(type=...)',
                         f'train_cfg.max_{unit}s': 60}.items():
        value = config
        for part in key.split('.'):
            value = (value or {}).get(part)
        if value is None:
            raise ConfigError(f'{prefix}{key} is missing: the {name or "student"} is trained by '
                              f'{WORDS[unit]}s on images; give {prefix}{key}={example}')
    for key, remedy in _counting_epochs(config) if unit == ITER else ():
        raise ConfigError(f'{prefix}{key} counts epochs, as it does by default, and {prefix}train_cfg counts '
                          f'iterations: give {prefix}{remedy}')


def _counting_epochs(config: Any) -> Iterator[tuple[str, str]]:
    """Parts of a training that would do nothing before the end of one by iterations, and what to give."""
    hook = (config.get('default_hooks') or {}).get('checkpoint', {})
    if hook is not None and hook.get('by_epoch', True):
        yield 'default_hooks.checkpoint', 'default_hooks.checkpoint=dict(by_epoch=False, interval=1000)'
    for scheduler in as_list(config.get('param_scheduler')):
        if 'type' in scheduler and scheduler.get('by_epoch', True):
            yield (f'param_scheduler: {type_name(scheduler)}', 'param_scheduler=dict(by_epoch=False, ...), '
                   'its other numbers in iterations')


# ------------------------------------------------------------ metrics and hooks that need teachers
def compares(item: Any) -> bool:
    """Whether a metric or hook compares a student with teachers that the run fills in."""
    return type_name(item) in COMPARING and not (isinstance(item, dict) and 'teacher' in item)


def without_comparison(config: Config) -> Config:
    """``config`` without metrics and hooks that need teachers; in place."""
    for key in ('val_evaluator', 'test_evaluator', 'custom_hooks'):
        if any(map(compares, as_list(config.get(key)))):
            config[key] = [item for item in as_list(config[key]) if not compares(item)]
    return config


def with_comparison(config: Config, own: Config, cohort: dict) -> Config:
    """``config`` with the comparing metrics and hooks of the student's ``own`` config, against this cohort;
    in place."""
    tau = (own.get('distill') or {}).get('tau')
    for key in ('val_evaluator', 'test_evaluator', 'custom_hooks'):
        found = [copy.deepcopy(item) for item in as_list(own.get(key)) if compares(item)]
        if key != 'custom_hooks':
            if config.get(key) is None:
                continue
            found = [dict({} if tau is None else dict(tau=tau), **item, teacher=copy.deepcopy(cohort))
                     for item in found]
        if found:
            config[key] = as_list(config.get(key)) + found
    return config


# ------------------------------------------------------------ models of a runner
def unwrap(model: nn.Module) -> nn.Module:
    """The model inside DDP or another wrapper, or itself."""
    return model.module if is_model_wrapper(model) else model


def averaged_weights(runner: Any) -> nn.Module | None:
    """The averaged (EMA) model of a run, without its wrapper; None where no hook keeps one."""
    return next((hook.ema_model.module for hook in runner.hooks if hasattr(hook, 'ema_model')), None)


def trained_model(runner: Any) -> nn.Module:
    """The averaged model of a finished run, or else the last, without its wrapper."""
    averaged = averaged_weights(runner)
    return unwrap(runner.model) if averaged is None else averaged


# ------------------------------------------------------------ values of configs
def type_name(item: Any) -> str:
    """Name, without its scope, of what a config builds, or of the class of what is built already. Configs in
    pure Python have classes and functions in ``type``."""
    kind = item.get('type') if isinstance(item, dict) else type(item)
    return getattr(kind, '__name__', str(kind)).split('.')[-1]


def as_list(value: Any) -> list:
    """None as no items, one item as a list of one."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
