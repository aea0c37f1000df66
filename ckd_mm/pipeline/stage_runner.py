"""mmengine's Runner as a stage uses it."""

import contextlib
import functools
import logging
import re
import sys
import time
from collections.abc import Callable
from math import inf
from pathlib import Path

from mmengine.dist import all_gather_object
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner, find_latest_checkpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..classifier_heads import trainable
from ..compat import stop_workers
from ..counting import WORDS, finished, unit_in
from ..data.damaged import name_damaged
from ..distributed import on_all
from ..errors import CkdError, DivergedError, NotFiniteError
from ..finite import require_finite
from ..hooks import StageStateHook, StopHook
from ..hooks.stage_state_hook import KEY
from ..signals import StopRequest, leave_to_the_main_process
from ..students.classifier import compile_classifier
from ..students.taught_student import TaughtStudent
from ..training import averaged_weights, unwrap
from ..trajectory.checkpoint_file import is_whole, load_safely
from .owner import OWNER, owner_of
from .schedule_replay import Beginning

UTF8_LOG = dict(type='WatchedFileHandler', encoding='utf-8')  # mmengine's own has that of the locale
# as CheckpointHook names what a run can go on from; best_*.pth lack the optimizer
NUMBERED = re.compile(r'(?:epoch|iter)_(\d+)\.pth')


def latest_checkpoint(folder: str | Path, warn: Callable[[str], None] | None = None,
                      elsewhere: Path | None = None) -> str | None:
    """The last whole checkpoint that the training in ``folder`` wrote; None if it noted none.

    mmengine notes in ``last_checkpoint`` where it wrote. The note of a folder that was moved or copied still
    names the file of the original, which is not read. Neither note nor checkpoint is written atomically: a
    killed run may leave an empty note, a power cut half a checkpoint, and disks change bits. Then it is the
    newest of those that are whole.

    Args:
        warn: gets a line if it is another than the noted one.
        elsewhere: where the training writes its checkpoints now, if not into ``folder``.

    Raises:
        CkdError: a checkpoint was noted, but none is whole.
    """
    folder, noted = Path(folder), find_latest_checkpoint(str(folder))
    if noted is None:
        return None
    places = dict.fromkeys([elsewhere or folder, folder])
    if is_own(noted, folder):  # written with another out_dir
        places = dict.fromkeys([Path(noted).parent, *places])
    written = [place / Path(noted).name for place in places] if noted else []
    numbered = sorted(((number_of(file), file) for place in places for file in place.glob('*.pth')
                       if -1 < number_of(file) <= (number_of(noted) if noted else inf)), reverse=True)
    found = next((file for file in [*written, *(file for _, file in numbered)] if is_whole(file)), None)
    if found is None:
        raise CkdError(f'{folder}/last_checkpoint names {noted or "no file"}, and no checkpoint in '
                       f'{" or ".join(map(str, places))} is whole. Put one there, or remove last_checkpoint '
                       'to train this stage from its start')
    if warn is not None and found not in written:
        warn(f'{folder}/last_checkpoint names {noted or "no file"}, which is damaged (or the run '
             f'stopped while writing it); going on from {found}')
    return str(found)


def number_of(checkpoint: str | Path) -> float:
    """The epoch or iteration in its name; -1: it has none."""
    match = NUMBERED.fullmatch(Path(checkpoint).name)
    return -1 if match is None else int(match[1])


def is_own(noted: str, folder: Path) -> bool:
    """Whether a checkpoint that was noted in the folder of a training, and is not there, is of this run."""
    file = Path(noted)
    run = next((parent for parent in folder.absolute().parents if (parent / OWNER).exists()), None)
    if run is not None and owner_of(run).get('name') in file.parts:
        return True
    if (folder / file.name).exists() or not (file.is_file() and is_whole(file)):
        return False
    # a run that began before its folder elsewhere had its name: the log of the part that wrote it is here
    checkpoint = load_safely(file, 'checkpoint')
    begun = str(checkpoint.get('meta', {}).get('experiment_name'))[-len('yyyymmdd_hhmmss'):]
    return ('stage' not in checkpoint.get(KEY, {}) and (folder / begun).is_dir()
            and not (file.parent / begun).is_dir())


def mind_full_disk(logger: MMLogger) -> MMLogger:
    """The same, whose files are told of once where they cannot be written, and end no run; ``logging`` would
    print a traceback for every line."""
    told: set[str] = set()

    def tell(handler: logging.FileHandler, record: logging.LogRecord) -> None:
        if not isinstance(error := sys.exc_info()[1], OSError):
            logging.Handler.handleError(handler, record)
        elif handler.baseFilename not in told:
            told.add(handler.baseFilename)
            print(f'warning: the log {handler.baseFilename} cannot be written ({error.strerror}); the run '
                  'goes on without it', file=sys.stderr)

    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = functools.partial(tell, handler)
    return logger


def close_log(logger: logging.Logger) -> None:
    """Close the files of a logger: mmengine keeps those of all runs of a process open."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            with contextlib.suppress(OSError):  # a full disk has been told of
                handler.close()


def start_worker(initialise: Callable[[int], None] | None, worker: int) -> None:
    leave_to_the_main_process()
    if initialise is not None:
        initialise(worker)


class StageRunner(Runner):
    """Like any Runner, except that ``compile`` compiles backbone and neck, not ``train_step``: hooks and
    recorders go on working, and checkpoints keep their names."""

    def __init__(self, *args, experiment_name: str | None = None, **kwargs) -> None:
        # mmengine names a run by the second in which it begins, and reuses the log of a name that exists,
        # which may be in the folder of another run
        while experiment_name and MMLogger.check_instance_created(
                f'{experiment_name}_{time.strftime("%Y%m%d_%H%M%S")}'):
            time.sleep(0.05)
        super().__init__(*args, experiment_name=experiment_name, **kwargs)

    @staticmethod
    def build_dataloader(*args, **kwargs) -> DataLoader:
        loader = Runner.build_dataloader(*args, **kwargs)
        name_damaged(loader.dataset)
        loader.worker_init_fn = functools.partial(start_worker, loader.worker_init_fn)
        return loader

    def build_model(self, model: dict | nn.Module) -> nn.Module:
        return trainable(super().build_model(model))

    def build_logger(self, *args, **kwargs) -> MMLogger:
        return mind_full_disk(super().build_logger(*args, file_handler_cfg=dict(UTF8_LOG), **kwargs))

    def train(self, stop: StopRequest | None = None) -> nn.Module:
        """
        Args:
            stop: after it a step is finished and written, see :class:`ckd_mm.hooks.StopHook`.

        Raises:
            DivergedError: on all processes: weights, optimizer or loss are no longer finite.
            NotFiniteError: likewise, and it is the teachers' logits that are not.
        """
        if stop is not None:
            self.register_hook(StopHook(stop))
        try:
            with contextlib.nullcontext() if stop is None else stop.wait():
                return super().train()
        except DivergedError as error:
            if teachers := self._broken_teachers():
                raise NotFiniteError(f'{error}, because the logits of {", ".join(teachers)} are not finite '
                                     '(NaN or infinity). Choose another teacher (selector), or leave --amp '
                                     'out if they are too large for float16') from error
            raise
        finally:
            for loop in (self._train_loop, self._val_loop):
                stop_workers(getattr(loop, 'dataloader', None))
            close_log(self.logger)

    def _maybe_compile(self, target: str) -> None:
        options = self.cfg.get('compile')
        if options:
            compile_classifier(unwrap(self.model), options)
            self.logger.info('Backbone and neck will be compiled; the first iterations are slow.')

    def load_or_resume(self) -> None:
        """The schedule of a learning rate that is another than in the checkpoint begins anew, and is brought
        to where the training is."""
        several = isinstance(self.optim_wrapper, OptimWrapperDict)  # optimizers, whose rates cannot change
        beginning = Beginning(self) if self._resume and not several else None
        super().load_or_resume()
        if beginning is not None and self._state.has_new_rate(self):
            beginning.replay(self)

    def save_checkpoint(self, *args, **kwargs) -> None:
        """On every process, though only the first writes, it is first verified that weights and optimizer are
        finite, and cached targets: a run must not go on from a checkpoint that learnt from those of other
        images.

        Raises:
            DivergedError: they are not; the checkpoints before are intact.
        """
        on_all(self._require_finite)
        verify = getattr(unwrap(self.model), 'verify_targets', None)
        if verify is not None:
            verify()
        super().save_checkpoint(*args, **kwargs)

    def _require_finite(self) -> None:
        model, averaged = unwrap(self.model), averaged_weights(self)
        names = {parameter: name for name, parameter in model.named_parameters()}
        tensors = {name: value.detach() for value, name in names.items()} | dict(model.state_dict())
        if averaged is not None:
            tensors |= {f'averaged {name}': value for name, value in averaged.state_dict().items()}
        wrapper = self.optim_wrapper
        for optimizer in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
            tensors |= {f'{key} of {names.get(parameter)}': value
                        for parameter, state in optimizer.optimizer.state.items()
                        for key, value in state.items() if isinstance(value, Tensor)}
        require_finite(tensors, f'the checkpoint of {WORDS[unit_in(self)]} {finished(self) + 1} is not '
                       'written')

    def _broken_teachers(self) -> list[str]:
        """Those of a student, on any process, that fail on a batch of its images."""
        model, own = unwrap(self.model), []
        if isinstance(model, TaughtStudent):
            with self.optim_wrapper.optim_context(self.model):
                own = model.broken_teachers(next(iter(self.train_dataloader)))
        return list(dict.fromkeys(name for names in all_gather_object(own) for name in names))

    @property
    def _state(self) -> StageStateHook:
        return next(hook for hook in self.hooks if isinstance(hook, StageStateHook))

    @property
    def seconds(self) -> float:
        """Time spent in this stage, over all the runs it took."""
        return self._state.seconds
