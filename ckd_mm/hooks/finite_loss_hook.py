"""Stop a run whose loss is no longer a number."""

import math

from mmengine.hooks import Hook

from ..errors import CkdError
from ..registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """
    Args:
        interval: iterations between two checks; each waits for the GPU.

    Raises:
        CkdError: during training: the loss is NaN or infinite. Earlier checkpoints and snapshots are intact.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = interval

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if not self.every_n_train_iters(runner, self.interval) or 'loss' not in (outputs or {}):
            return
        loss = float(outputs['loss'].detach())
        if not math.isfinite(loss):
            raise CkdError(f'the loss is {loss} in iteration {runner.iter + 1} (epoch {runner.epoch + 1}): '
                           'the training has diverged. Lower the learning rate (optim_wrapper.optimizer.lr), '
                           'warm it up, or clip gradients (optim_wrapper.clip_grad)')
