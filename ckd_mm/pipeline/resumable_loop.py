"""Epochs that a resumed run can enter in the middle."""

from collections.abc import Iterator

import torch
from mmengine.runner import EpochBasedTrainLoop
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


def _rest_of_epoch(loader: DataLoader, skip: int) -> Iterator:
    """The batches of this epoch after the first ``skip``, whose images are not read."""
    rest = DataLoader(loader.dataset, batch_sampler=list(loader.batch_sampler)[skip:],
                      num_workers=loader.num_workers, collate_fn=loader.collate_fn,
                      pin_memory=loader.pin_memory, worker_init_fn=loader.worker_init_fn,
                      prefetch_factor=loader.prefetch_factor)
    # starting an iterator draws a number that the unbroken run drew at the start of the epoch
    state = torch.get_rng_state()
    iterator = iter(rest)
    torch.set_rng_state(state)
    return iterator
