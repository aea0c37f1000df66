"""Channels side by side in memory, as convolutions want them."""

from typing import Any

import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..data.views import random_state_kept
from ..errors import ConfigError
from ..registry import HOOKS
from ..students.taught_student import TaughtStudent
from ..teachers.channels_last import set_memory_format
from ..teachers.head_training import HeadTraining
from ..training import unwrap


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Train and evaluate in ``torch.channels_last``: the model, its inputs and, where there are any,
    teachers.

    Works in any mmengine run of a convolutional network:
    ``custom_hooks=[dict(type='ckd_mm.ChannelsLastHook')]``. Results are the same but for rounding.
    Checkpoints, and the model after the run, are in torch's usual order; a run may be resumed with the hook
    or without.

    DistributedDataParallel lays out its gradients before any hook is called, and adds up wrong ones for
    weights whose layout changes afterwards. So in a run of several processes the student's weights stay as
    they are, and each convolution converts them for itself, which is little beside the activations.
    """

    priority = 'LOWEST'  # after those that put something into a checkpoint

    def __init__(self) -> None:
        self._handle, self._wrapped = None, False

    def before_train(self, runner) -> None:
        self._begin(runner)
        self._try(runner)
        if self._wrapped:
            return
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):  # its copy was made before
                set_memory_format(hook.ema_model, torch.channels_last)
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        for state in getattr(optimizer, 'state', {}).values():  # of a run that is resumed
            state.update(_in(torch.channels_last, state))

    def _try(self, runner) -> None:
        """Run the network on an image; where that cannot be done, train all the same.

        Raises:
            ConfigError: it fails in channels_last, but not in the usual order.
        """
        model = unwrap(runner.model)
        try:
            with random_state_kept():  # an image is augmented at random
                images = torch.stack([runner.train_dataloader.dataset[0]['inputs']] * 2)
        except Exception as error:  # an IterableDataset, batches, other keys
            _say_untried(model, error)
            return
        problem = _problem_with(model, images)
        if problem is None:
            return
        self._end(runner)
        usual = _problem_with(model, images)
        if usual is None:  # a map in this order cannot be viewed as the network wants, say
            raise ConfigError(f'ChannelsLastHook: {type(model).__name__} fails on an image in channels_last, '
                              f'but not on one in the usual order: {type(problem).__name__}: {problem}. Take '
                              'the hook out of custom_hooks') from problem
        self._begin(runner)
        _say_untried(model, usual)

    def before_val(self, runner) -> None:
        self._begin(runner)

    def before_test(self, runner) -> None:
        self._begin(runner)

    def _begin(self, runner) -> None:
        """Not earlier, in ``before_run``: random numbers that weights begin with are drawn in the order of
        their memory."""
        if self._handle is not None:
            return
        self._wrapped = is_model_wrapper(runner.model)
        model = unwrap(runner.model)
        self._set(model, torch.channels_last)
        for module in model.modules():
            if isinstance(module, TaughtStudent):
                module.to_channels_last()
        self._handle = model.data_preprocessor.register_forward_hook(_channels_last)

    def _end(self, runner) -> None:
        self._handle.remove()
        self._handle = None
        self._set(unwrap(runner.model), torch.contiguous_format)

    def _set(self, model: nn.Module, memory_format: torch.memory_format) -> None:
        if not self._wrapped:
            set_memory_format(model, memory_format)
        for module in model.modules():
            if isinstance(module, HeadTraining):
                set_memory_format(module.network, memory_format)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        for key in ('state_dict', 'ema_state_dict'):  # in place: torch keeps versions in an attribute of them
            checkpoint.get(key, {}).update(_in(torch.contiguous_format, dict(checkpoint.get(key, {}))))
        if 'optimizer' in checkpoint:
            checkpoint['optimizer'] = _in(torch.contiguous_format, checkpoint['optimizer'])

    def after_run(self, runner) -> None:
        if self._handle is not None:  # whoever saves the model now
            self._end(runner)


def _problem_with(model: nn.Module, images: Tensor) -> Exception | None:
    """What a forward pass of raw images raises."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            model(model.data_preprocessor(dict(inputs=images), False)['inputs'], mode='tensor')
        return None
    except Exception as error:  # networks assert, raise or stumble as each of them likes
        return error
    finally:
        for module in training:
            module.training = True


def _say_untried(model: nn.Module, problem: Exception) -> None:
    print_log(f'ChannelsLastHook: {type(model).__name__} could not be tried on an image before training '
              f'({type(problem).__name__}: {problem}).', logger='current')


def _channels_last(preprocessor: nn.Module, given: Any, batch: Any) -> Any:
    return _in(torch.channels_last, batch)


def _in(memory_format: torch.memory_format, tree: Any) -> Any:
    """The same containers; tensors of four dimensions, (N, C, H, W), are in this format."""

    def converted(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and leaf.dim() == 4:
            return leaf.contiguous(memory_format=memory_format)
        return leaf

    return tree_map(converted, tree)
