"""Ends a training after a step, so that it goes on with the next one."""

import time
from pathlib import Path

import torch
from mmengine.dist import all_reduce, barrier, get_world_size, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.optim import OptimWrapperDict

from ..counting import ITER, WORDS, finished, planned, unit_in
from ..files import atomic_write
from ..signals import Stopped, StopRequest

KEY = 'ckd_mm_stopped_at'  # in mmengine's message hub, and so in checkpoints
INTERVAL = 1.0  # seconds between two times that the processes ask each other
MOST_STEPS = 100  # between two times: steps may become slower


class StopHook(Hook):
    """After a signal to any process all of them finish the same step, one that updates the weights. A
    checkpoint of it is written, ``iter_<step>.pth``, and :class:`Stopped` raised. The checkpoint is removed
    when ``CheckpointHook`` has written a later one.

    A validation is left at once where ``CheckpointHook`` has written the epoch: it is repeated anyway.

    Args:
        request: of this process.
    """

    priority = 'LOWEST'  # what others do after a step is in the checkpoint

    def __init__(self, request: StopRequest) -> None:
        self.request, self.stopping = request, False
        self.steps, self.interval, self.since = 0, 1, time.perf_counter()
        self.left = self.val_batches = 0

    def is_asked(self) -> bool:
        """Whether any process got a signal; they ask each other at the same steps, about once a second."""
        if get_world_size() == 1:
            return self.request.signal is not None
        self.steps += 1
        if self.steps >= self.interval:
            seconds = (time.perf_counter() - self.since) / self.steps
            found = torch.tensor([float(self.request.signal is not None), seconds], dtype=torch.float64)
            all_reduce(found, 'max')
            asked, slowest = found.tolist()
            self.stopping = self.stopping or asked > 0
            self.interval = min(max(int(INTERVAL / slowest), 1), MOST_STEPS)
            self.steps, self.since = 0, time.perf_counter()
        return self.stopping

    def before_train(self, runner) -> None:
        self.left = runner.message_hub.runtime_info.get(KEY, 0)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self._remove_left(runner)
        if self.is_asked() and is_updated(runner):
            length = planned(self, runner)
            done = f'{runner.iter + 1} of {length}' if length.unit == ITER else (
                f'epoch {runner.epoch + 1}, {batch_idx + 1} of {len(runner.train_dataloader)} batches')
            self._stop(runner, runner.iter + 1, done)

    def after_train_epoch(self, runner) -> None:
        self._remove_left(runner)

    def before_val_epoch(self, runner) -> None:
        batches = torch.tensor(len(getattr(runner.val_loop, 'dataloader', ())))
        all_reduce(batches, 'min')  # those in which all processes can ask each other
        self.val_batches = int(batches)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if batch_idx < self.val_batches and self.is_asked() and is_written(runner):
            self._raise(f'in the validation after {WORDS[unit_in(runner)]} {finished(runner)}, which is '
                        'written')

    def after_train(self, runner) -> None:
        self.interval = 0
        if self.is_asked():
            if is_written(runner):
                self._raise('after its last step, which is written')
            self._stop(runner, runner.iter, 'the last')

    def _stop(self, runner, step: int, done: str) -> None:
        name = f'iter_{step}.pth'
        runner.message_hub.update_info(KEY, step)
        meta = dict(epoch=runner.epoch, iter=step)
        runner.save_checkpoint(runner.work_dir, name, meta=meta, by_epoch=False)
        if is_main_process():
            file = Path(runner.work_dir, name)
            atomic_write(file.with_name('last_checkpoint'), str(file).encode())
            if self.left not in (0, step):
                file.with_name(f'iter_{self.left}.pth').unlink(missing_ok=True)
        self._raise(f'after step {step} ({done}), which is in {Path(runner.work_dir).name}/{name}')

    def _raise(self, where: str) -> None:
        barrier()  # rank 0 may still be writing, and a launcher ends the others with the first
        by = self.request.signal or 'A signal to another process'
        raise Stopped(f'{by} ended the training {where}; --resume goes on with it')

    def _remove_left(self, runner) -> None:
        """The checkpoint from which this training goes on, once there is a later one."""
        if self.left and any(hook.last_ckpt for hook in checkpoint_hooks(runner)):
            if is_main_process():
                Path(runner.work_dir, f'iter_{self.left}.pth').unlink(missing_ok=True)
            self.left = 0


def checkpoint_hooks(runner) -> list[CheckpointHook]:
    return [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]


def is_written(runner) -> bool:
    """Whether ``CheckpointHook`` has written the epoch that has just ended."""
    return any(hook.last_ckpt and Path(hook.last_ckpt).name == hook.filename_tmpl.format(
        runner.epoch if hook.by_epoch else runner.iter) for hook in checkpoint_hooks(runner))


def is_updated(runner) -> bool:
    """Whether no gradients are left over from the last step, as where they are accumulated."""
    wrapper = runner.optim_wrapper
    several = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return all(one.should_update() for one in several)
