"""What happens between two epochs or, where a training counts these, between two iterations."""

from mmengine.hooks import Hook

from ..counting import EPOCH, ITER, unit_in


class CountingHook(Hook):
    """Calls :meth:`before_one` and :meth:`after_one` around each epoch, or around each iteration where a
    training counts these. There mmengine calls ``before_train_epoch`` once, at the start."""

    def before_one(self, runner, done: int) -> None:
        """
        Args:
            done: finished epochs or iterations.
        """

    def after_one(self, runner, done: int) -> None:
        """
        Args:
            done: as before, with the one that has just ended.
        """

    def before_train_epoch(self, runner) -> None:
        if unit_in(runner) == EPOCH:
            self.before_one(runner, runner.epoch)

    def after_train_epoch(self, runner) -> None:
        if unit_in(runner) == EPOCH:
            self.after_one(runner, runner.epoch + 1)  # the loop counts up after this hook

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if unit_in(runner) == ITER:
            self.before_one(runner, runner.iter)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if unit_in(runner) == ITER:
            self.after_one(runner, runner.iter + 1)
