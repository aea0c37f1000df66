"""Stop a run whose loss is no longer a number."""

import math

from mmengine.dist import all_reduce
from mmengine.hooks import Hook

from ..errors import DivergedError
from ..registry import HOOKS
from ..validate import check_int


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """
    Args:
        interval: iterations between two checks; each waits for the GPU.

    Raises:
        DivergedError: during training, on all processes: the loss is NaN or infinite on one of them. Earlier
            checkpoints and snapshots are intact.
    """

    def __init__(self, interval: int = 50) -> None:
        self.interval = check_int('FiniteLossHook: interval', interval, 1, ' of iterations')

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if not self.every_n_train_iters(runner, self.interval) or 'loss' not in (outputs or {}):
            return
        loss = outputs['loss'].detach().clone()
        all_reduce(loss)  # all processes stop together
        if not math.isfinite(float(loss)):
            raise DivergedError(f'the loss is {float(loss)} in iteration {runner.iter + 1} (epoch '
                                f'{runner.epoch + 1}): the training has diverged')
