"""Keep the trajectory of a training run."""

import os
import time
from collections.abc import Sequence
from numbers import Number
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.runner import find_latest_checkpoint
from torch import nn

from ..compat import versions
from ..counting import ITER, WORDS, Length, finished, planned, times_of
from ..data.split import require_held_out
from ..distributed import on_main
from ..errors import CkdError, ConfigError
from ..files import plain, remove_unfinished
from ..registry import HOOKS
from ..training import averaged_weights, unwrap
from ..trajectory import Trajectory, check_schedule, model_config_of, snapshot_times, write_snapshot
from ..trajectory.trajectory import FOLDER
from ..validate import check_bool
from .counting_hook import CountingHook

KEY = 'ckd_mm_snapshot'  # in checkpoints


@HOOKS.register_module()
class SnapshotHook(CountingHook):
    """Write weights-only snapshots of the model and a manifest, ``trajectory.json``.

    The snapshot of epoch 120 holds the weights after 120 epochs; where a training counts iterations, that of
    iteration 4000 those after 4000. Snapshot and manifest are on disk before the checkpoint of the same time,
    so whatever a resumed run starts from has its snapshot. A run killed between the two trains that part
    again and replaces its snapshot.

    Where training is stopped early, its end leaves a snapshot, too: the trajectory is that of a training of
    this length, and its manifest notes the planned one.

    Args:
        interval, epochs, iters, phases: when; exactly one, see :func:`ckd_mm.trajectory.snapshot_times`.
        ema: keep the averaged weights of the run's ``EMAHook`` instead of the weights themselves.
        out_dir: folder of the manifest; default: the run's work_dir.
        info: further facts about the run for the manifest.
        overwrite: replace the snapshots of an earlier run in the same folder instead of refusing to.

    Raises:
        ConfigError: before training: settings that cannot be met by this run.
        CkdError: before training: a resumed run has lost snapshots. Afterwards: the disk is full.
        DivergedError: the weights are not finite.
    """

    # just before CheckpointHook (VERY_LOW, 90): no hook in between may change weights, as PreciseBNHook does
    priority = 85

    def __init__(self, interval: int | None = None, epochs: Sequence[int] | None = None,
                 phases: int | None = None, ema: bool = False, out_dir: str | None = None,
                 info: dict | None = None, overwrite: bool = False,
                 iters: Sequence[int] | None = None) -> None:
        self.schedule = dict(interval=interval, epochs=epochs, iters=iters, phases=phases)
        check_schedule(**self.schedule)
        self.ema = check_bool('SnapshotHook: ema', ema)
        self.out_dir = out_dir
        self.info = info or {}
        self.overwrite = check_bool('SnapshotHook: overwrite', overwrite)
        self.trajectory: Trajectory | None = None  # from the start of training on
        self.lr: float | None = None
        self.validated: tuple[int, dict[str, float]] = 0, {}  # when that was last, and the metrics
        self.restored: dict = {}

    def before_train(self, runner) -> None:
        self.length = planned(self, runner)
        self.times = snapshot_times(self.length, **self.schedule)
        self._network(runner)  # raises where there are no averaged weights
        dataset = runner.train_dataloader.dataset
        unit, classes = self.length.unit, (getattr(dataset, 'metainfo', None) or {}).get('classes')
        held_out = getattr(dataset, 'held_out', None)  # of split_dataset
        trajectory = Trajectory(self.out_dir or runner.work_dir, info=plain(dict(
            self.info, **({} if held_out is None else dict(held_out=held_out)),
            model=model_config_of(runner.cfg), classes=classes,
            **{f'max_{unit}s': self.length, f'snapshot_{unit}s': self.times}, ema=self.ema, seed=runner.seed,
            versions=versions())))
        trajectory.snapshots = self._earlier_snapshots(trajectory, runner)
        self._check_missing(trajectory, runner)
        self.trajectory = trajectory
        self.started = time.perf_counter() - self.restored.get('seconds', 0.0)
        if is_main_process():
            remove_unfinished(trajectory.folder, trajectory.manifest.name)
            remove_unfinished(trajectory.folder / FOLDER)
            trajectory.save()

    def _earlier_snapshots(self, trajectory: Trajectory, runner) -> list:
        """Of this run before it was resumed; later ones will be written again."""
        manifest = trajectory.manifest
        if not manifest.exists():
            return []
        found = Trajectory.from_manifest(manifest)
        if len(found) and finished(runner) == 0 and not runner._resume and not self.overwrite:
            raise ConfigError(f'{manifest} holds {len(found)} snapshots of an earlier run. Pass --resume to '
                              'continue that run, or choose another --work-dir; nothing was overwritten')
        if len(found) and found.info.get('model') != trajectory.info['model']:
            raise ConfigError(f'{manifest} is of another network than the config; choose another --work-dir')
        if runner._resume:
            require_held_out(found.info.get('held_out'), trajectory.info.get('held_out'), manifest)
        if len(found) and found.unit != self.length.unit:
            raise ConfigError(f'{manifest} has snapshots by {WORDS[found.unit]}s, and this training counts '
                              f'{self.length.words}; choose another --work-dir')
        return [snapshot for snapshot in found
                if snapshot.time <= finished(runner) and snapshot.file.is_file()]

    def _check_missing(self, trajectory: Trajectory, runner) -> None:
        """Raises CkdError, before anything is changed, if snapshots are missing that the checkpoint names."""
        missing = {time for time in self.times if time <= finished(runner)} - set(trajectory.times)
        lost, words = missing & set(self.restored.get('epochs', ())), self.length.words
        # a run that goes on from a checkpoint of another work_dir leaves its snapshots there
        start, noted = runner._load_from, find_latest_checkpoint(runner.work_dir)
        own = {Path(runner.work_dir).resolve(), *([Path(noted).resolve().parent] if noted else [])}  # out_dir
        if lost and (start is None or not own.isdisjoint(Path(start).resolve().parents)):
            raise CkdError(f'the snapshots of {words} {sorted(lost)}, which were on disk when this run '
                           f'stopped, are gone from {trajectory.manifest} or from its folder, and training '
                           'is past them. Restore them, or start anew in another --work-dir')
        if missing:
            runner.logger.warning(f'The snapshots of {words} {sorted(missing)} are missing and training is '
                                  'past them; to have them, start anew')

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        # later it is that of the next one
        if self.length.unit == ITER or self.end_of_epoch(runner.train_dataloader, batch_idx):
            rates = runner.optim_wrapper.get_lr()
            self.lr = next((values[0] for name, values in rates.items()
                            if name.split('.')[-1] == 'lr' and values), None)

    def after_one(self, runner, done: int) -> None:
        if done in self.times:
            on_main(lambda: self._write(runner, done))

    def after_train(self, runner) -> None:
        done = finished(runner)
        if done == self.length:
            return
        runner.logger.warning(f'Training was stopped early, after {done} of {self.length} {done.words}')
        on_main(lambda: self._end_early(runner, done))

    def _end_early(self, runner, done: Length) -> None:
        self.trajectory.info.update({f'max_{done.unit}s': int(done),
                                     f'planned_{done.unit}s': int(self.length)})
        if done in self.trajectory.times:
            self.trajectory.save()
        else:
            self._write(runner, done)
            self._note(*self.validated)

    def _write(self, runner, done: int) -> None:
        info, unit = self.trajectory.info, self.length.unit
        snapshot = write_snapshot(
            self.trajectory.folder / FOLDER / f'{unit}_{done}.pth', self._network(runner).state_dict(),
            **times_of(done, runner), lr=self.lr, model=info['model'], classes=info['classes'],
            seconds=round(time.perf_counter() - self.started, 2),
            extra=dict(cfg=runner.cfg.pretty_text, seed=runner.seed, experiment_name=runner.experiment_name))
        self.trajectory.add(snapshot)
        runner.logger.info(f'Snapshot of {snapshot.when}: {snapshot.file} ({snapshot.size / 2**20:.1f} MiB)')

    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        """Note the accuracy of the snapshot of this time in the manifest."""
        # EMAHook validates the averaged weights, whatever the snapshot holds
        prefix = 'ema/' if averaged_weights(runner) is not None and not self.ema else ''
        self.validated = finished(runner), {f'{prefix}{name}': value
                                        for name, value in plain(metrics or {}).items()
                                        if isinstance(value, Number)}
        self._note(*self.validated)

    def _note(self, time: int, metrics: dict[str, float]) -> None:
        if self.trajectory is not None and time in self.trajectory.times and is_main_process():
            self.trajectory.set_metrics(time, metrics)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        if self.trajectory is not None:
            checkpoint.setdefault(KEY, {})[self._relative_folder(runner)] = dict(
                lr=self.lr, epochs=self.trajectory.times, seconds=time.perf_counter() - self.started)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume:
            self.restored = checkpoint.get(KEY, {}).get(self._relative_folder(runner), {})
            self.lr = self.restored.get('lr')  # for an epoch of which no iteration is left

    def _relative_folder(self, runner) -> str:
        """The work_dir may be moved between two parts of a run."""
        return os.path.relpath(self.out_dir or runner.work_dir, runner.work_dir)

    def _network(self, runner) -> nn.Module:
        network = averaged_weights(runner) if self.ema else unwrap(runner.model)
        if network is None:
            raise ConfigError("SnapshotHook(ema=True) needs averaged weights: add dict(type='EMAHook') to "
                              'custom_hooks, or leave ema out')
        return network
