"""Keep the trajectory of a training run."""

import os
import time
from collections.abc import Sequence
from numbers import Number
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop

from ..compat import versions
from ..errors import CkdError, ConfigError
from ..files import plain, remove_unfinished
from ..registry import HOOKS
from ..trajectory import (
    MANIFEST,
    SnapshotWriter,
    Trajectory,
    check_schedule,
    finish_writing,
    model_config_of,
    snapshot_epochs,
)
from .stage_state_hook import StageStateHook

FOLDER = 'snapshots'
KEY = 'ckd_mm_snapshot'


@HOOKS.register_module()
class SnapshotHook(Hook):
    """Write weights-only snapshots of the model and a manifest, ``trajectory.json``.

    Epochs count finished epochs: the snapshot of epoch 120 holds the weights after 120 epochs. Each file
    appears whole or not at all; a run that is killed and resumed continues its manifest.

    Training waits while the weights are copied in memory, not for the disk
    (:class:`ckd_mm.trajectory.SnapshotWriter`), and ends when all is there. A checkpoint is ahead of the
    snapshots by one at most, whose weights it holds itself: a run resumed from it takes that snapshot again,
    bit for bit the same, and then trains on.

    Args:
        interval, epochs, phases: when; exactly one, see :func:`ckd_mm.trajectory.snapshot_epochs`.
        ema: keep the averaged weights of the run's ``EMAHook`` instead of the weights themselves.
        out_dir: folder of the manifest; default: the run's work_dir.
        info: further facts about the run for the manifest.
        overwrite: start anew over the snapshots of an earlier run in the same folder instead of refusing.

    Raises:
        ConfigError: before training: settings that cannot be met by this run.
        CkdError: the disk is full, said in the iteration after; snapshots and checkpoints written before are
            intact.
    """

    # just before CheckpointHook (VERY_LOW, 90), so that nobody changes the weights in between (PreciseBNHook,
    # SyncBuffersHook): whatever a resumed run starts from has its snapshot, or is it
    priority = 85

    def __init__(self, interval: int | None = None, epochs: Sequence[int] | None = None,
                 phases: int | None = None, ema: bool = False, out_dir: str | None = None,
                 info: dict | None = None, overwrite: bool = False) -> None:
        self.schedule = dict(interval=interval, epochs=epochs, phases=phases)
        check_schedule(**self.schedule)
        self.ema = ema
        self.out_dir = out_dir
        self.info = dict(info or {})
        self.overwrite = overwrite
        self.writer: SnapshotWriter | None = None
        self.lr: float | None = None
        self.taken: dict = {}
        self.restored: dict = {}
        self.slow_disk_said = False

    @property
    def trajectory(self) -> Trajectory | None:
        """With everything that was taken: waits for the snapshot that is being written. None before
        training."""
        return None if self.writer is None else self.writer.trajectory

    def before_train(self, runner) -> None:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ConfigError('SnapshotHook counts epochs, but train_cfg makes a '
                              f'{type(runner.train_loop).__name__}; '
                              'use an EpochBasedTrainLoop (train_cfg=dict(by_epoch=True, max_epochs=...))')
        self.epochs = snapshot_epochs(runner.max_epochs, **self.schedule)
        if self.ema:
            self._ema_model(runner)
        folder = Path(self.out_dir or runner.work_dir)
        finish_writing()  # an earlier part of this run may have died in this process
        kept = self._continue_manifest(folder, runner)
        again = self._to_take_again(folder, kept, runner)
        classes = (getattr(runner.train_dataloader.dataset, 'metainfo', None) or {}).get('classes')
        info = dict(plain(self.info), model=plain(model_config_of(runner.cfg)), classes=plain(classes),
                    max_epochs=runner.max_epochs, snapshot_epochs=self.epochs, ema=self.ema, seed=runner.seed,
                    versions=versions())
        trajectory = Trajectory(folder, kept, info)
        self.writer = SnapshotWriter(trajectory)
        self.seconds_before = (kept[-1].seconds or 0.0) if kept else 0.0
        self.started = time.perf_counter()
        self.lr = self.restored.get('lr')
        # formatting it takes longer than copying the weights of a small network
        self.cfg_text = runner.cfg.pretty_text
        if is_main_process():
            remove_unfinished(folder, MANIFEST)
            remove_unfinished(folder / FOLDER)
            trajectory.save()
            if again is not None:
                runner.logger.info(f'The snapshot of epoch {again["epoch"]} is taken again: the run stopped '
                                   'before it was on disk')
                self._take(runner, **again)
                self.seconds_before = again['seconds']

    def _to_take_again(self, folder: Path, kept: list, runner) -> dict | None:
        """Facts of the snapshot that was not yet on disk when the checkpoint was written from which this run
        goes on.

        Raises:
            CkdError: snapshots that this hook had on disk by then are gone. Nothing was changed.
        """
        missing = sorted({epoch
                          for epoch in self.epochs if epoch <= runner.epoch} -
                         {snapshot.epoch
                          for snapshot in kept})
        taken = self.restored.get('taken')
        again = bool(
            taken and
            missing) and taken['epoch'] == missing[-1] == runner.epoch and taken['iteration'] == runner.iter
        if again:
            missing.pop()
        lost = sorted(set(missing) & set(self.restored.get('epochs', ())))
        if lost and self.restored.get('folder') == self._folder_in(runner) and _goes_on_in_place(runner):
            raise CkdError(f'{folder / MANIFEST} has no snapshots of epochs {lost}, which were on disk when '
                           'this run stopped, '
                           'and training is past them. Restore the file, or start anew in another --work-dir')
        if missing:
            runner.logger.warning(f'The snapshots of epochs {missing} are missing and training is past '
                                  'them; to have them, start anew')
        return taken if again else None

    def _folder_in(self, runner) -> str:
        """Seen from the work_dir, which may be moved between two parts of a run."""
        return os.path.relpath(self.out_dir or runner.work_dir, runner.work_dir)

    def _continue_manifest(self, folder: Path, runner) -> list:
        """Snapshots of an earlier part of this run; those after the resumed epoch will be taken again."""
        if not (folder / MANIFEST).exists():
            return []
        found = Trajectory._from_manifest(folder / MANIFEST)
        if len(found) and runner.epoch == 0 and not runner._resume and not self.overwrite:
            raise ConfigError(f'{folder / MANIFEST} holds {len(found)} snapshots of an earlier run. Pass '
                              '--resume to continue '
                              'that run, or choose another --work-dir; nothing was overwritten')
        if len(found) and found.info.get('model') != plain(model_config_of(runner.cfg)):
            raise ConfigError(f'{folder / MANIFEST} is of another network than the config; choose another '
                              '--work-dir')
        return [snapshot for snapshot in found if snapshot.epoch <= runner.epoch]

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        if self.end_of_epoch(runner.train_dataloader, batch_idx):
            self.lr = _learning_rate(runner)  # after the iteration ParamSchedulerHook sets that of the next

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        self._report(runner)

    def after_train_epoch(self, runner) -> None:
        epoch = runner.epoch + 1  # the loop counts up after this hook
        if epoch not in self.epochs or not is_main_process():
            return
        if self.writer.busy and not self.slow_disk_said:
            self.slow_disk_said = True
            runner.logger.warning(f'The snapshot of epoch {epoch} waits until the one before is on disk, '
                                  'which takes longer than the '
                                  'training in between. Fewer snapshots or a faster disk would help (said '
                                  'once)')
        self._take(runner, epoch=epoch, iteration=runner.iter, lr=self.lr,
                   seconds=round(self._seconds(runner), 2))

    def _take(self, runner, **taken) -> None:
        model = self._ema_model(runner) if self.ema else runner.model
        if is_model_wrapper(model):
            model = model.module
        info = self.writer.info
        self.writer.write(f'{FOLDER}/epoch_{taken["epoch"]}.pth', model, model=info['model'],
                          classes=info['classes'], extra=dict(cfg=self.cfg_text, seed=runner.seed,
                                     experiment_name=runner.experiment_name), **taken)
        self.taken = taken

    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        """Note in the manifest how good the snapshot of this epoch is (validation comes after it was
        taken)."""
        if self.writer is None or runner.epoch not in self.writer.epochs or not is_main_process():
            return
        # EMAHook validates the averaged weights: of the others nothing is known then
        averaged = any(isinstance(hook, EMAHook) for hook in runner.hooks) and not self.ema
        numbers = {
            f'ema/{name}' if averaged else name: value
            for name, value in plain(metrics or {}).items() if isinstance(value, Number)
        }
        self.writer.set_metrics(runner.epoch, numbers)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Wait for the snapshot on its way, unless this checkpoint has the same weights and so can bring it
        back."""
        if self.writer is None:
            return
        # of two such hooks in a run the first leaves its mark, the second waits
        same = checkpoint['meta']['iter'] == self.taken.get('iteration') and KEY not in checkpoint
        if not same:
            self.writer.wait()
        checkpoint.setdefault(
            KEY, dict(lr=self.lr, taken=self.taken if same else None, epochs=sorted(self.writer.epochs),
                 folder=self._folder_in(runner)))

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume:
            self.restored = checkpoint.get(KEY) or {}

    def after_train(self, runner) -> None:
        self.writer.close()
        self._report(runner)

    def after_run(self, runner) -> None:
        if self.writer is not None:  # validated once more after training
            self.writer.close()

    def _report(self, runner) -> None:
        for snapshot in self.writer.written_meanwhile():
            runner.logger.info(f'Snapshot of epoch {snapshot.epoch}: {snapshot.file} '
                               f'({snapshot.size / 2**20:.1f} MiB)')

    def _seconds(self, runner) -> float:
        """Of training until now; of a resumed run with what came before, which StageStateHook knows best."""
        for hook in runner.hooks:
            if isinstance(hook, StageStateHook):
                return hook.seconds
        return self.seconds_before + time.perf_counter() - self.started

    def _ema_model(self, runner):
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                return hook.ema_model.module
        raise ConfigError("SnapshotHook(ema=True) needs averaged weights: add dict(type='EMAHook') to "
                          "custom_hooks, or leave ema out")


def _goes_on_in_place(runner) -> bool:
    """Whether the checkpoint from which a run is resumed is its own, and not one of another work_dir."""
    file = runner._load_from
    return file is None or Path(runner.work_dir).resolve() in Path(file).resolve().parents


def _learning_rate(runner) -> float | None:
    rates = runner.optim_wrapper.get_lr()
    return next((values[0] for name, values in rates.items() if name.split('.')[-1] == 'lr' and values), None)
