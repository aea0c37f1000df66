"""Training in ``torch.channels_last``, the memory layout that convolutions compute in."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import Tensor
from torch.utils._pytree import tree_map

from ..data.views import random_state_kept
from ..errors import ConfigError
from ..registry import HOOKS
from ..students.taught_student import TaughtStudent
from ..teachers.channels_last import set_memory_format
from ..teachers.head_training import HeadTraining
from ..training import averaged_weights, unwrap


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Train and evaluate a convolutional network, and its teachers if it has any, in channels_last.

    Works in any mmengine run: ``custom_hooks=[dict(type='ckd_mm.ChannelsLastHook')]``. Results are the same
    but for rounding. Checkpoints, and the model after the run, are in torch's usual layout; a run may be
    resumed with the hook or without.

    Under a wrapper only inputs and teachers change: DistributedDataParallel lays out its gradients before any
    hook is called, and adds up wrong ones for weights whose layout changes later. Each convolution then
    converts its weights itself, which is little beside the activations.
    """

    priority = 'LOWEST'  # after the hooks that write into a checkpoint

    def __init__(self) -> None:
        self._handle = None

    def before_train(self, runner) -> None:
        """Raises ConfigError if the network works in the usual layout, but not in channels_last."""
        self._begin(runner)
        problem = _problem(runner)
        if problem is not None:
            self._end(runner)
            _explain(type(unwrap(runner.model)).__name__, problem, _problem(runner))
            self._begin(runner)
        if is_model_wrapper(runner.model):
            return
        averaged = averaged_weights(runner)
        if averaged is not None:  # copied before the layout changed
            set_memory_format(averaged, torch.channels_last)
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        for state in getattr(optimizer, 'state', {}).values():  # of a resumed run
            state.update(_in(torch.channels_last, state))

    def before_val(self, runner) -> None:
        self._begin(runner)

    def before_test(self, runner) -> None:
        self._begin(runner)

    def _begin(self, runner) -> None:
        """Not in ``before_run``: weights are initialised later, with random numbers in the order of their
        memory."""
        if self._handle is not None:
            return
        _set_layout(runner, torch.channels_last)
        model = unwrap(runner.model)
        if isinstance(model, TaughtStudent):
            model.to_channels_last()
        self._handle = model.data_preprocessor.register_forward_hook(
            lambda preprocessor, inputs, batch: _in(torch.channels_last, batch))

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        for state_dict in (checkpoint.get('state_dict', {}), checkpoint.get('ema_state_dict', {})):
            # in place: torch keeps versions in an attribute of it
            state_dict.update(_in(torch.contiguous_format, dict(state_dict)))
        if 'optimizer' in checkpoint:
            checkpoint['optimizer'] = _in(torch.contiguous_format, checkpoint['optimizer'])

    def after_run(self, runner) -> None:
        if self._handle is not None:
            self._end(runner)

    def _end(self, runner) -> None:
        self._handle.remove()
        self._handle = None
        _set_layout(runner, torch.contiguous_format)


def _set_layout(runner, memory_format: torch.memory_format) -> None:
    model = unwrap(runner.model)
    if not is_model_wrapper(runner.model):
        set_memory_format(model, memory_format)
    if isinstance(model, HeadTraining):  # its frozen network is no submodule
        set_memory_format(model.network, memory_format)


def _problem(runner) -> Exception | None:
    """What a forward pass of the first training image raises."""
    model = unwrap(runner.model)
    training = [module for module in model.modules() if module.training]
    try:
        with random_state_kept(), torch.no_grad():  # an image is augmented at random
            images = torch.stack([runner.train_dataloader.dataset[0]['inputs']] * 2)
            model.eval()(model.data_preprocessor(dict(inputs=images), False)['inputs'], mode='tensor')
    except Exception as error:  # an IterableDataset, other keys; networks fail in any way they like
        return error
    finally:
        for module in training:
            module.training = True
    return None


def _explain(name: str, problem: Exception, usual: Exception | None) -> None:
    """``problem`` was raised in channels_last, ``usual`` in the usual layout."""
    if usual is None:  # say, a map in channels_last cannot be viewed as a vector
        raise ConfigError(f'ChannelsLastHook: {name} fails on an image in channels_last, but not on one in '
                          f'the usual order: {type(problem).__name__}: {problem}. Take the hook out of '
                          'custom_hooks') from problem
    print_log(f'ChannelsLastHook: {name} could not be tried on an image before training '
              f'({type(usual).__name__}: {usual}).', logger='current')


def _in(memory_format: torch.memory_format, tree: Any) -> Any:
    """The same containers, with all tensors of four dimensions, (N, C, H, W), in this layout."""
    return tree_map(lambda leaf: leaf.contiguous(memory_format=memory_format)
                    if isinstance(leaf, Tensor) and leaf.dim() == 4 else leaf, tree)
