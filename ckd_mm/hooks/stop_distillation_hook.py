"""Early-stopped knowledge distillation (ESKD, Sec. 5.3)."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from ..errors import ConfigError
from ..registry import HOOKS


@HOOKS.register_module()
class StopDistillationHook(Hook):
    """Distil for the first ``stop_epoch`` epochs, then train on with cross-entropy alone and without the teacher.

    The state is the epoch itself, so a run resumed past the stop never loads the teacher.

    Args:
        stop_epoch: number of epochs with distillation, 0 for none.
    """

    def __init__(self, stop_epoch: int) -> None:
        if not isinstance(stop_epoch, int) or isinstance(stop_epoch, bool) or stop_epoch < 0:
            raise ConfigError(f'stop_epoch={stop_epoch!r} should be a whole number of epochs, at least 0')
        self.stop_epoch = stop_epoch

    def before_train(self, runner) -> None:
        if self.stop_epoch > runner.max_epochs:
            raise ConfigError(f'stop_epoch={self.stop_epoch} is never reached: the run has {runner.max_epochs} epochs; '
                              'leave stop_epoch out to distil to the end')
        self._stop_if_due(runner)

    def before_train_epoch(self, runner) -> None:
        self._stop_if_due(runner)

    def _stop_if_due(self, runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not hasattr(model, 'stop_distillation'):
            raise ConfigError(f'StopDistillationHook needs a ckd_mm.CheckpointDistill model, got {type(model).__name__}')
        if runner.epoch >= self.stop_epoch and not model.stopped:
            model.stop_distillation()
            for name in [name for name in runner.message_hub.log_scalars if name.startswith('train/loss_')]:
                del runner.message_hub.log_scalars[name]  # mmengine would go on logging the last value
            runner.logger.info(f'Distillation stopped after {self.stop_epoch} epochs; the teacher is released.')
