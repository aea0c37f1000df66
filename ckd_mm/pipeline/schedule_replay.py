"""The schedule of a training that goes on with another learning rate."""

import copy
import warnings
from typing import Any

from ..errors import ConfigError
from ..training import as_list


class Beginning:
    """Optimizer and schedulers as a training of ``runner`` begins, before a checkpoint is loaded."""

    def __init__(self, runner: Any) -> None:
        self.groups = [{key: value for key, value in group.items() if key != 'params'}
                       for group in runner.optim_wrapper.param_groups]
        self.states = [copy.deepcopy(scheduler.state_dict()) for scheduler in _schedulers(runner)]

    def replay(self, runner: Any) -> None:
        """Bring the schedule from there to where the training is, step by step as mmengine's
        ``ParamSchedulerHook`` did: schedulers are recursive, and a rate is no multiple of the first where
        there is an ``eta_min``.

        Raises:
            ConfigError: a scheduler goes by what was measured, or by another setting.
        """
        schedulers, length = _schedulers(runner), len(runner.train_dataloader)
        for scheduler in schedulers:
            if getattr(scheduler, 'need_val_args', False):
                raise ConfigError(f'optim_wrapper.optimizer.lr: {type(scheduler).__name__} changes the '
                                  'learning rate by what it measures, so where another one would be by now '
                                  'is not known. Restore the learning rate, and clip gradients '
                                  '(optim_wrapper.clip_grad)')
        for group, own in zip(runner.optim_wrapper.param_groups, self.groups):
            if 'max_lr' in own and own['max_lr'] == group.get('max_lr'):
                raise ConfigError('optim_wrapper.optimizer.lr: OneCycleLR has its learning rates from '
                                  "eta_max; restore it, and lower param_scheduler's eta_max")
            group.update(own)
        for scheduler, state in zip(schedulers, self.states):
            scheduler.load_state_dict(state)
        by_epoch = [scheduler for scheduler in schedulers if scheduler.by_epoch]
        by_iteration = [scheduler for scheduler in schedulers if not scheduler.by_epoch]
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)  # the optimizer does not step meanwhile
            epochs = 0
            for iteration in range(1, runner.iter + 1):
                _step(by_iteration)
                if iteration % length == 0 and epochs < runner.epoch:
                    _step(by_epoch)
                    epochs += 1
            for _ in range(epochs, runner.epoch):  # a batch had more images then
                _step(by_epoch)


def _schedulers(runner: Any) -> list:
    return as_list(runner.param_schedulers)


def _step(schedulers: list) -> None:
    for scheduler in schedulers:
        scheduler.step()
