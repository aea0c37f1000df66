"""Keep the trajectory of a training run."""

import time
from dataclasses import replace
from numbers import Number
from pathlib import Path
from typing import Dict, Optional, Sequence

from mmengine.dist import is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop

from ..compat import versions
from ..errors import ConfigError
from ..fileio import plain
from ..registry import HOOKS
from ..trajectory import MANIFEST, Trajectory, check_schedule, model_config_of, snapshot_epochs, write_snapshot
from .stage_state_hook import StageStateHook

FOLDER = 'snapshots'


@HOOKS.register_module()
class SnapshotHook(Hook):
    """Write weights-only snapshots of the model and a manifest, ``trajectory.json``.

    Epochs count finished epochs: the snapshot of epoch 120 holds the weights after 120 epochs. Each file appears whole or
    not at all; a run that is killed and resumed continues its manifest.

    Args:
        interval, epochs, phases: when; exactly one, see :func:`ckd_mm.trajectory.snapshot_epochs`.
        ema: keep the averaged weights of the run's ``EMAHook`` instead of the weights themselves.
        out_dir: folder of the manifest; default: the run's work_dir.
        info: further facts about the run for the manifest.
        overwrite: start anew over the snapshots of an earlier run in the same folder instead of refusing.

    Raises:
        ConfigError: before training: settings that cannot be met by this run.
        CkdError: the disk is full; snapshots and checkpoints written before are intact.
    """

    # after the epoch's training and before CheckpointHook (VERY_LOW): whatever a resumed run starts from has its snapshot
    priority = 'NORMAL'

    def __init__(self, interval: Optional[int] = None, epochs: Optional[Sequence[int]] = None, phases: Optional[int] = None,
                 ema: bool = False, out_dir: Optional[str] = None, info: Optional[Dict] = None,
                 overwrite: bool = False) -> None:
        self.schedule = dict(interval=interval, epochs=epochs, phases=phases)
        check_schedule(**self.schedule)
        self.ema = ema
        self.out_dir = out_dir
        self.info = dict(info or {})
        self.overwrite = overwrite
        self.trajectory: Optional[Trajectory] = None

    def before_train(self, runner) -> None:
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ConfigError(f'SnapshotHook counts epochs, but train_cfg makes a {type(runner.train_loop).__name__}; '
                              'use an EpochBasedTrainLoop (train_cfg=dict(by_epoch=True, max_epochs=...))')
        self.epochs = snapshot_epochs(runner.max_epochs, **self.schedule)
        if self.ema:
            self._ema_model(runner)
        folder = Path(self.out_dir or runner.work_dir)
        kept = self._continue_manifest(folder, runner)
        classes = (getattr(runner.train_dataloader.dataset, 'metainfo', None) or {}).get('classes')
        info = dict(plain(self.info), model=plain(model_config_of(runner.cfg)), classes=plain(classes),
                    max_epochs=runner.max_epochs, snapshot_epochs=self.epochs, ema=self.ema, seed=runner.seed, versions=versions())
        self.trajectory = Trajectory(folder, kept, info)
        self.seconds_before = (kept[-1].seconds or 0.0) if kept else 0.0
        self.started = time.perf_counter()
        if is_main_process():
            self.trajectory.save()

    def _continue_manifest(self, folder: Path, runner) -> list:
        """Snapshots of an earlier part of this run; those after the resumed epoch will be taken again."""
        if not (folder / MANIFEST).exists():
            return []
        found = Trajectory._from_manifest(folder / MANIFEST)
        if len(found) and runner.epoch == 0 and not runner._resume and not self.overwrite:
            raise ConfigError(f'{folder / MANIFEST} holds {len(found)} snapshots of an earlier run. Pass --resume to continue '
                              'that run, or choose another --work-dir; nothing was overwritten')
        if len(found) and found.info.get('model') != plain(model_config_of(runner.cfg)):
            raise ConfigError(f'{folder / MANIFEST} is of another network than the config; choose another --work-dir')
        return [snapshot for snapshot in found if snapshot.epoch <= runner.epoch]

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs: Optional[dict] = None) -> None:
        self.lr = _learning_rate(runner)  # ParamSchedulerHook (LOW) sets that of the next iteration after this

    def after_train_epoch(self, runner) -> None:
        epoch = runner.epoch + 1  # the loop counts up after this hook
        if epoch not in self.epochs or not is_main_process():
            return
        model = self._ema_model(runner) if self.ema else runner.model
        if is_model_wrapper(model):
            model = model.module
        name = f'{FOLDER}/epoch_{epoch}.pth'
        snapshot = write_snapshot(
            self.trajectory.folder / name, model.state_dict(), epoch=epoch, iteration=runner.iter, lr=self.lr,
            model=self.trajectory.info['model'], classes=self.trajectory.info['classes'],
            extra=dict(cfg=runner.cfg.pretty_text, seed=runner.seed, experiment_name=runner.experiment_name))
        self.trajectory.add(replace(snapshot, seconds=round(self._seconds(runner), 2)))
        runner.logger.info(f'Snapshot of epoch {epoch}: {snapshot.file} ({snapshot.size / 2**20:.1f} MiB)')

    def after_val_epoch(self, runner, metrics: Optional[Dict[str, float]] = None) -> None:
        """Note in the manifest how good the snapshot of this epoch is (validation comes after it was written)."""
        if self.trajectory is None or runner.epoch not in self.trajectory.epochs or not is_main_process():
            return
        # EMAHook validates the averaged weights: of the others nothing is known then
        averaged = any(isinstance(hook, EMAHook) for hook in runner.hooks) and not self.ema
        numbers = {f'ema/{name}' if averaged else name: value for name, value in plain(metrics or {}).items() if isinstance(value, Number)}
        self.trajectory.set_metrics(runner.epoch, numbers)

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
        raise ConfigError("SnapshotHook(ema=True) needs averaged weights: add dict(type='EMAHook') to custom_hooks, or leave ema out")


def _learning_rate(runner) -> Optional[float]:
    rates = runner.optim_wrapper.get_lr()
    return next((values[0] for name, values in rates.items() if name.split('.')[-1] == 'lr' and values), None)
