"""mmengine's Runner as a stage uses it."""

import logging
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, find_latest_checkpoint
from torch import nn

from ..compat import compile_in_place, stop_workers
from ..errors import CkdError
from ..hooks import StageStateHook

# as CheckpointHook names what a run can go on from; best_*.pth lack the optimizer
NUMBERED = re.compile(r'(?:epoch|iter)_(\d+)\.pth')


def latest_checkpoint(folder: str | Path, warn: Callable[[str], None] | None = None) -> str | None:
    """The last whole checkpoint that a run in ``folder`` wrote; None if it noted none.

    mmengine notes in ``last_checkpoint`` where it wrote, and the folder may have been moved since. It writes
    neither this note nor the checkpoint in one go: a run that was killed in between may leave an empty note,
    a power cut half a checkpoint. Then it is the newest of those that are whole.

    Args:
        warn: is told that it is another than the one that was noted.

    Raises:
        CkdError: a checkpoint was noted, but none is whole.
    """
    folder, noted = Path(folder), find_latest_checkpoint(str(folder))
    if noted is None:
        return None
    written = [folder / Path(noted).name, Path(noted)] if noted else []
    numbered = [(int(match[1]), file) for file in folder.glob('*.pth')
                for match in [NUMBERED.fullmatch(file.name)] if match]
    found = next(
        (file for file in written + [file for _, file in sorted(numbered, reverse=True)] if _is_whole(file)),
        None)
    if found is None:
        raise CkdError(f'{folder}/last_checkpoint names {noted or "no file"}, and no checkpoint in {folder} '
                       'is whole. Bring one back, or remove last_checkpoint to train this stage from its '
                       'start')
    if warn is not None and found not in written:
        warn(f'{folder}/last_checkpoint names {noted or "no file"}, which is not whole (the run stopped '
             f'while writing it); going on from {found}')
    return str(found)


def _is_whole(checkpoint: Path) -> bool:
    """Of a file that torch writes front to back: its directory, at the end, is there. Sharded checkpoints are
    folders."""
    return checkpoint.is_dir() or zipfile.is_zipfile(checkpoint)


def close_log(logger: logging.Logger) -> None:
    """Close the files of a logger: mmengine keeps those of all runs of a process open."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()


class StageRunner(Runner):
    """Like any Runner, except that ``compile`` compiles backbone and neck, not ``train_step``: hooks and
    recorders go on working, and checkpoints keep their names."""

    def __init__(self, *args, experiment_name: str | None = None, **kwargs) -> None:
        # mmengine names a run by the second in which it begins, and of a name that it knows it takes the log,
        # which may be in the folder of another run
        while experiment_name and MMLogger.check_instance_created(
                f'{experiment_name}_{time.strftime("%Y%m%d_%H%M%S")}'):
            time.sleep(0.05)
        super().__init__(*args, experiment_name=experiment_name, **kwargs)

    def train(self) -> nn.Module:
        try:
            return super().train()
        finally:
            for loop in (self._train_loop, self._val_loop):
                stop_workers(getattr(loop, 'dataloader', None))
            close_log(self.logger)

    def _maybe_compile(self, target: str) -> None:
        options = self.cfg.get('compile')
        if options:
            model = self.model.module if is_model_wrapper(self.model) else self.model
            parts = [
                part for part in (getattr(model, name, None) for name in ('backbone', 'neck'))
                if part is not None
            ]
            compile_in_place(parts, dict(options) if isinstance(options, dict) else {})
            self.logger.info('Backbone and neck will be compiled; the first iterations are slow.')

    def save_checkpoint(self, *args, **kwargs) -> None:
        """Called on every process, though only the first writes: what a resumed run goes on from rests on
        images that all looked at."""
        look = getattr(self.model.module if is_model_wrapper(self.model) else self.model, 'verify_targets',
                       None)
        if look is not None:
            look()
        super().save_checkpoint(*args, **kwargs)

    @property
    def seconds(self) -> float:
        """Time spent in this stage, over all the runs it took."""
        return next(hook.seconds for hook in self.hooks if isinstance(hook, StageStateHook))
