"""Whether a learning rate fits the batch size, and its schedule the length of the training."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.registry import PARAM_SCHEDULERS

from ..counting import ITER, WORDS, Length, length_of
from ..errors import ConfigError, in_a_line
from ..training import as_list, type_name, unscaled_batch
from .run import Run
from .stage import STUDENT

if TYPE_CHECKING:
    from .training_stage import TrainingStage

FAR = 0.1  # of the highest rate, or of the training
ITERATIONS = 20  # that stand for an epoch where no scheduler counts iterations


def check_learning_rate(stage: TrainingStage, run: Run, config: Config) -> str:
    """Warns of a learning rate for another batch size, which mmengine only scales with ``--auto-scale-lr``.

    Warns of a schedule of another length than the training, as one that a longer training inherits: a
    cosine rises again after its end, or the rate stays where it ended; a shorter training cuts it off. Called
    on all ranks.

    Raises:
        ConfigError: a scheduler cannot be built, or cannot go on to the end of the training.
    """
    processes = get_world_size()
    if (batch := unscaled_batch(config, processes)) is not None:
        loader, wrapper = (stage.setting(run, key) for key in ('train_dataloader', 'optim_wrapper'))
        run.warn(f'the learning rate is for {batch[1]} images a step (auto_scale_lr.base_batch_size), and '
                 f'a step on {processes} process(es) has {batch[0]}. Pass --auto-scale-lr, or change the '
                 f'number of processes, {loader}.batch_size or {wrapper}.optimizer.lr')
    schedulers, total = as_list(config.get('param_scheduler')), length_of(config.train_cfg)
    if not all('type' in scheduler for scheduler in schedulers):
        return 'not checked: schedulers of several optimizers'
    lr = (config.optim_wrapper.get('optimizer') or {}).get('lr', 1.0)
    if not schedulers or not isinstance(lr, Real):  # the optimizer will say what is wrong
        return 'constant'
    # one iteration is an epoch of one
    length = 1 if total.unit == ITER else iterations_of(schedulers, run, config)
    name, train_cfg = stage.setting(run, 'param_scheduler'), stage.setting(run, 'train_cfg')
    try:
        found = misfit(schedulers, lr, total, length)
    except Exception as error:  # whatever a scheduler raises: name it
        raise ConfigError(f'{name}={config.param_scheduler!r} cannot schedule the {total.text} '
                          f'({train_cfg}.max_{total.unit}s) of the {stage.title}: '
                          f'{in_a_line(error)}') from error
    shown = ', '.join(map(type_name, schedulers))
    if found is None:
        return shown
    happens, scheduler, fitting = found
    # generations and baselines have the student's schedule
    if stage.name not in run.done and (stage.key or stage.name == STUDENT):
        settings = ', '.join(f'{key}={value!r}' for key, value in scheduler.items() if key != 'type')
        own = f'{stage.key}=dict(param_scheduler=...)' if stage.key else 'param_scheduler'
        run.warn(f'{stage.title}: {happens}: {name} has {type_name(scheduler)} with '
                 f'{settings}, and {train_cfg}.max_{total.unit}s={total}. If that is not meant, give {own} '
                 f'with {fitting}')
    return f'{shown}: {happens}'


def iterations_of(schedulers: list[dict], run: Run, config: Config) -> int:
    """In an epoch of the simulation: those of the training where a scheduler counts them."""
    if all(scheduler.get('by_epoch', True) for scheduler in schedulers):
        return ITERATIONS
    loader = config.train_dataloader
    images = len(run.data_set(loader.dataset, 'train_dataloader.dataset'))
    return max(1, math.ceil(images / (loader.get('batch_size', 1) * get_world_size())))


def misfit(schedulers: list[dict], lr: float, epochs: Length, length: int) -> tuple[str, dict, str] | None:
    """Of the first scheduler that does not fit ``epochs`` of ``length`` iterations: it is too short or too
    long, never acts, or the learning rate is not reached. Says what happens, by which, and what would fit."""
    epochs, word = Length(epochs), WORDS[Length(epochs).unit]
    rates = simulated(schedulers, lr, epochs, length)
    for scheduler in schedulers:
        by_epoch = scheduler.get('by_epoch', True)
        last = epochs if by_epoch else epochs * length
        if type_name(scheduler).endswith('LR') and 'monitor' not in scheduler and lr > 0 and all(
                simulated([scheduler], lr, epochs, length) == lr):
            return ('a scheduler changes nothing', scheduler,
                          f'whole numbers of {"epochs" if by_epoch else "iterations"} below {last}')
        if scheduler is schedulers[-1] and not lr / 2 <= rates.max() <= 2 * lr and 'eta_max' not in scheduler:
            return (f'the learning rate comes to {rates.max():.3g}, and not to the lr={lr:g} of the '
                          'optimizer', scheduler, f'a highest rate of {lr:g}')
        key = next((key for key in ('T_max', 'total_steps', 'end') if scheduler.get(key)), None)
        if key is None:
            continue
        begin = 0 if key == 'end' else scheduler.get('begin', 0)
        end, happens = begin + scheduler[key], None
        if end < last:
            happens = after_the_end(rates, math.ceil(end / last * len(rates)), length, key != 'end', word)
        elif end > last and key != 'end':
            later = math.ceil(end / last * epochs)
            longer = [dict(item, end=end) if item is scheduler else item for item in schedulers]
            whole = simulated(longer, lr, later, length)
            if abs(whole[-1] - rates[-1]) > FAR * whole.max():
                happens = (f'the learning rate ends at {rates[-1]:.3g}, where its schedule would go on to '
                           f'{whole[-1]:.3g} after {later} {epochs.words}')
        if happens is not None:
            also = f', end={last}' if key != 'end' and 'end' in scheduler else ''
            return (happens, scheduler, f'{key}={last - begin}{also}')
    return None


def after_the_end(rates: np.ndarray, end: int, length: int, is_periodic: bool, word: str) -> str | None:
    """What the rates do after the iteration ``end`` that is hardly meant: they rise by more than a part
    :data:`FAR` of the peak after they have fallen, or stay low for longer than that part of the training."""
    peak = int(np.argmax(rates >= 0.99 * rates.max()))
    high = peak + int(np.argmax(rates[peak:] - np.minimum.accumulate(rates[peak:])))
    low = peak + int(np.argmin(rates[peak:high + 1]))
    if is_periodic and rates[high] - rates[low] > FAR * rates[peak] and high >= end:
        return (f'the learning rate falls to {rates[low]:.3g} until {word} {low // length + 1} and rises '
                f'again, to {rates[high]:.3g} in {word} {high // length + 1}')
    rest = rates[end:]
    if len(rest) > FAR * len(rates) and rest.max() < FAR * rates[peak] and np.ptp(rest) < 1e-3 * rates[peak]:
        return f'the learning rate stays at {rest[-1]:.3g} after {word} {end // length}'
    return None


def simulated(schedulers: list[dict], lr: float, epochs: int, length: int) -> np.ndarray:
    """The learning rate in each of ``epochs`` times ``length`` iterations, by mmengine's own schedulers."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, momentum=0.9)
    optimizer.step()  # schedulers warn where none was before theirs
    ends = {True: epochs, False: epochs * length}
    built = [PARAM_SCHEDULERS.build(dict({'end': ends[scheduler.get('by_epoch', True)]}, **scheduler),
                                    default_args=dict(optimizer=optimizer, epoch_length=length))
             for scheduler in schedulers]
    rates = []
    for iteration in range(1, epochs * length + 1):
        rates.append(optimizer.param_groups[0]['lr'])
        for scheduler in built:
            if not scheduler.by_epoch or iteration % length == 0:
                scheduler.step()
    return np.array(rates)
