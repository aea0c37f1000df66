"""Trainings that a resumed run enters where it was left."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import DataLoader

from ..registry import LOOPS


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop, except that a run resumed from a checkpoint inside an epoch
    (``CheckpointHook(by_epoch=False)``) goes on with its next batch, where mmengine starts the epoch again.
    ``StageStateHook`` carries the place.

    Attributes:
        position: batches of the running epoch that are done.
        skip: batches that the next epoch starts after.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.position = 0
        self.skip = 0

    def run_epoch(self) -> None:
        skip, self.skip, self.position = self.skip, 0, self.skip
        if skip == 0:
            super().run_epoch()
        else:
            self.runner.call_hook('before_train_epoch')
            self.runner.model.train()
            for index, batch in enumerate(_rest_of_epoch(self.dataloader, skip), skip):
                self.run_iter(index, batch)
            self.runner.call_hook('after_train_epoch')
            self._epoch += 1
        # CheckpointHook(save_best=...) saves once more after validation, when the next epoch counts already
        self.position = 0

    def run_iter(self, idx, data_batch) -> None:
        self.position = idx + 1
        super().run_iter(idx, data_batch)


@LOOPS.register_module()
class ResumableIterLoop(IterBasedTrainLoop):
    """mmengine's loop, except that a resumed run goes on with its next batch and the random numbers of an
    unbroken one, without reading the images before, also with a sampler whose epochs end.

    Attributes:
        position, skip: see :class:`ResumableEpochLoop`, of the running epoch of the images.
        image_epoch: its number, from 0.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.position = self.skip = self.image_epoch = 0

    def run(self) -> Any:
        runner = self.runner
        runner.call_hook('before_train')
        self.position = self.skip
        runner.call_hook('before_train_epoch')  # as in mmengine's loop, once
        batches = self._batches()
        while self._iter < self._max_iters and not self.stop_training:
            runner.model.train()
            self.run_iter(next(batches))
            self._decide_current_val_interval()
            if runner.val_loop is not None and self._iter >= self.val_begin and (
                    self._iter % self.val_interval == 0 or self._iter == self._max_iters):
                runner.val_loop.run()
        runner.call_hook('after_train_epoch')
        runner.call_hook('after_train')
        return runner.model

    def _batches(self) -> Iterator[Any]:
        while True:
            for sampler in (self.dataloader.sampler, getattr(self.dataloader.batch_sampler, 'sampler', None)):
                if hasattr(sampler, 'set_epoch'):
                    sampler.set_epoch(self.image_epoch)
                    break
            skip, self.skip = self.skip, 0
            for index, batch in enumerate(_rest_of_epoch(self.dataloader, skip) if skip else self.dataloader,
                                          skip + 1):
                self.position = index
                yield batch
            self.image_epoch += 1


class _Rest:
    """Of an iterable, which may have no end."""

    def __init__(self, whole: Iterable, skip: int) -> None:
        self.whole, self.skip = whole, skip

    def __iter__(self) -> Iterator:
        return itertools.islice(self.whole, self.skip, None)


def _rest_of_epoch(loader: DataLoader, skip: int) -> Iterator:
    """The batches of this epoch after the first ``skip``, whose images are not read."""
    rest = DataLoader(loader.dataset, batch_sampler=_Rest(loader.batch_sampler, skip),
                      num_workers=loader.num_workers, collate_fn=loader.collate_fn,
                      pin_memory=loader.pin_memory, worker_init_fn=loader.worker_init_fn,
                      prefetch_factor=loader.prefetch_factor)
    # starting an iterator draws a number that the unbroken run drew at the start of the epoch
    state = torch.get_rng_state()
    iterator = iter(rest)
    torch.set_rng_state(state)
    return iterator
