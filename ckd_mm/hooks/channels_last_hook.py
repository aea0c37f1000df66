"""Channels side by side in memory, as convolutions want them."""

from typing import Any

import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..datasets.views import random_state_kept
from ..errors import ConfigError
from ..models.algorithms.head_training import HeadTraining
from ..models.algorithms.taught_student import TaughtStudent
from ..models.memory_format import set_memory_format
from ..registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Train and evaluate in ``torch.channels_last``: the model, its inputs and, where there are teachers, also these.

    Works in any mmengine run of a convolutional network: ``custom_hooks=[dict(type='ckd_mm.ChannelsLastHook')]``. What is computed is the
    same but for rounding, since other kernels compute it. Checkpoints, and the model after the run, are as without it, in torch's usual
    order; a run may be resumed with the hook or without.

    DistributedDataParallel lays out its gradients before any hook is called, and adds up wrong ones for weights that are rearranged
    afterwards. So in a run of several processes the student's weights stay as they are and each convolution rearranges them for itself,
    which is little beside the activations; teachers are not in the wrapper.
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
        for state in getattr(getattr(runner.optim_wrapper, 'optimizer', None), 'state', {}).values():  # of a run that is resumed
            state.update(_in(torch.channels_last, state))

    def _try(self, runner) -> None:
        """
        Raises:
            ConfigError: the network cannot work on maps in this order.
        """
        with random_state_kept():  # an image is augmented at random
            item = runner.train_dataloader.dataset[0]
        if not isinstance(item, dict) or not isinstance(item.get('inputs'), Tensor):
            return
        model = runner.model.module if self._wrapped else runner.model
        inputs = model.data_preprocessor(dict(inputs=torch.stack([item['inputs']] * 2)), False)['inputs']
        training = [module for module in model.modules() if module.training]
        model.eval()
        try:
            with torch.no_grad():
                model(inputs, mode='tensor')
        except RuntimeError as error:  # torch's: a map in this order cannot be viewed as the network wants
            raise ConfigError(f'ChannelsLastHook: {type(model).__name__} fails on an image in channels_last: {error}. Take the hook out of '
                              'custom_hooks') from error
        finally:
            for module in training:
                module.training = True

    def before_val(self, runner) -> None:
        self._begin(runner)

    def before_test(self, runner) -> None:
        self._begin(runner)

    def _begin(self, runner) -> None:
        """Not earlier, in ``before_run``: random numbers that weights begin with are drawn in the order of their memory."""
        if self._handle is not None:
            return
        self._wrapped = is_model_wrapper(runner.model)
        model = runner.model.module if self._wrapped else runner.model
        if not self._wrapped:
            set_memory_format(model, torch.channels_last)
        for module in model.modules():
            if isinstance(module, TaughtStudent):
                module.rearrange_teachers()
            elif isinstance(module, HeadTraining):
                set_memory_format(module.network, torch.channels_last)
        self._handle = model.data_preprocessor.register_forward_hook(_channels_last)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        for key in ('state_dict', 'ema_state_dict'):  # changed in place: torch keeps versions in an attribute of these dicts
            checkpoint.get(key, {}).update(_in(torch.contiguous_format, dict(checkpoint.get(key, {}))))
        if 'optimizer' in checkpoint:
            checkpoint['optimizer'] = _in(torch.contiguous_format, checkpoint['optimizer'])

    def after_run(self, runner) -> None:
        if self._handle is None:
            return
        self._handle.remove()
        self._handle = None
        if not self._wrapped:  # whoever saves the model now
            set_memory_format(runner.model, torch.contiguous_format)


def _channels_last(preprocessor: nn.Module, given: Any, batch: Any) -> Any:
    return _in(torch.channels_last, batch)


def _in(memory_format: torch.memory_format, tree: Any) -> Any:
    """The same containers; tensors of four dimensions, (N, C, H, W), are in this format."""

    def converted(leaf: Any) -> Any:
        return leaf.contiguous(memory_format=memory_format) if isinstance(leaf, Tensor) and leaf.dim() == 4 else leaf

    return tree_map(converted, tree)
