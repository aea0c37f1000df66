"""Measure the information plane of a network while it trains."""

from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, is_main_process

from ..errors import ConfigError
from ..infoplane import PLANE, InformationPlane, check_layer
from ..infoplane.probe import Probe
from ..registry import HOOKS
from ..training import unwrap
from ..validate import check_one_label
from .counting_hook import CountingHook
from .snapshot_hook import SnapshotHook


@HOOKS.register_module()
class InfoPlaneHook(CountingHook):
    """Measure each snapshot of the run's ``SnapshotHook``, with the code of ``tools/probe.py`` and into the
    same ``information_plane.json``. Training is not disturbed (random state, modes, gradients). In a
    distributed run rank 0 measures and the others wait.

    Args:
        out_dir: folder of the file; default: that of the trajectory.
        figure: draw ``information_plane.png`` after the run.
        probe: see :class:`ckd_mm.infoplane.ProbeSettings`.
    """

    priority = 86  # after SnapshotHook

    def __init__(self, out_dir: str | None = None, figure: bool = True, **probe: Any) -> None:
        self.out_dir, self.figure, self.settings = out_dir, figure, probe

    def before_train(self, runner) -> None:
        self.snapshots = next((hook for hook in runner.hooks if isinstance(hook, SnapshotHook)), None)
        if self.snapshots is None:
            raise ConfigError("InfoPlaneHook measures snapshots: add dict(type='ckd_mm.SnapshotHook', ...) "
                              'to custom_hooks')
        check_one_label('the network', unwrap(runner.model))
        self.probe = Probe(runner.cfg, **self.settings)
        self.probe.log = runner.logger.info
        if self.probe.options.layer is not None:
            model = unwrap(runner.model)
            check_layer(getattr(model, 'student', model), self.probe.options.layer)
        with torch.random.fork_rng(devices=[]):  # on all processes: some data sets wait for each other
            notes = self.probe.notes(self.snapshots.trajectory)
        if is_main_process():
            self.path = Path(self.out_dir or self.snapshots.trajectory.folder) / PLANE
            self.plane = InformationPlane.continue_from(self.path, self.probe.settings, notes)
        else:
            self.probe = None

    def after_one(self, runner, done: int) -> None:
        if done not in self.snapshots.times:
            return
        if is_main_process():
            snapshot = self.snapshots.trajectory.at(done)
            point = self.probe.measure(snapshot)
            self.plane.add(point)
            self.plane.save(self.path)
            runner.logger.info(f'Information plane, {snapshot.when}: I(X;F) {point.information_x:.5f} nats, '
                               f'I(Y;F) {point.information_y:.4f}')
        barrier()

    def after_train(self, runner) -> None:
        if self.figure and is_main_process():
            from ..report import draw_information_plane
            draw_information_plane(self.plane, self.path.with_suffix('.png'))
