"""Measure a trajectory: for the hook, the runner and tools/probe.py."""

import copy
import hashlib
import math
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_rank
from mmpretrain.registry import DATASETS

from ..counting import EPOCH, WORDS
from ..data.split import holds_out
from ..distributed import on_main
from ..errors import CkdError
from ..files import plain
from ..trajectory import Snapshot, Trajectory, share_snapshots
from .estimators import ProbeImages, estimate_point
from .images import load_probe_images, probe_dataset
from .plane import InformationPlane, PlanePoint
from .settings import ProbeSettings


class Probe:
    """Images and settings, the same for every snapshot.

    Args:
        config: of the run, whose data sets are used.
        given: see :class:`ProbeSettings`.

    Attributes:
        settings: all that the numbers depend on besides the snapshots, as it is written down.
    """

    def __init__(self, config: dict, **given: Any) -> None:
        self.options: ProbeSettings = ProbeSettings.read('probe', given)
        self.probe_split, self.held_out = self.options.probe_split, self.options.held_out
        self.num_images, self.seed = self.options.num_images, self.options.seed
        self.dataset = probe_dataset(config, self.probe_split, self.held_out, self.seed)
        self.settings = plain({name: getattr(self.options, name) for name in self.options.names()})
        self.settings.update(dataset=plain(self.dataset))
        if self.probe_split == 'test':
            self.settings['held_out'] = None
        self.log: Callable[[str], None] = print

    @cached_property
    def _built(self) -> Any:
        return DATASETS.build(copy.deepcopy(self.dataset))

    @cached_property
    def images(self) -> ProbeImages:
        return load_probe_images(self._built, self.num_images, self.seed, self.log)

    @property
    def held_out_record(self) -> dict[str, Any]:
        """What draws the images that the teacher is not trained on."""
        return dict(held_out=self.held_out, seed=self.seed)

    @property
    def held_out_images(self) -> dict[str, Any] | None:
        """Which they are, as manifests say it; None of test images."""
        return None if self.probe_split == 'test' else plain(self._built.held_out)

    def was_seen(self, trajectory: Trajectory) -> bool | None:
        """Whether the teacher may have been trained on the images; None of test images."""
        if self.probe_split == 'test':
            return None
        return not holds_out(trajectory.info.get('held_out'), self.held_out_images)

    def warn_if_seen(self, trajectory: Trajectory, log: Callable[[str], None]) -> None:
        if self.was_seen(trajectory):
            log('Warning: the trajectory does not say that its teacher was trained without the held-out '
                "images; accuracy on images it has seen says little. Use probe_split='test', or images of "
                'your own, to be sure')

    def notes(self, trajectory: Trajectory) -> dict[str, Any]:
        pixels = self.images.pixels
        return dict(probe_split=self.probe_split, images=len(pixels), image_size=list(pixels.shape[1:]),
                    images_sha256=hashlib.sha256(pixels.numpy().tobytes()).hexdigest(),
                    teacher_trained_on_probe_images=self.was_seen(trajectory),
                    **({} if trajectory.unit == EPOCH else dict(unit=trajectory.unit)))

    def measure(self, snapshot: Snapshot) -> PlanePoint:
        """Raises CkdError if the snapshot's features are not finite."""
        network, started = snapshot.build(), time.perf_counter()
        values = estimate_point(network, self.images, self.options, torch.device(get_device()), self.log)
        if not math.isfinite(values['information_x']):
            raise CkdError(f'probe: I(X;F) of the snapshot of {snapshot.when} is not finite: its '
                           'features hold NaN or infinity, the training had diverged. Leave the snapshot out '
                           'of the trajectory')
        return PlanePoint(epoch=snapshot.time, sha256=snapshot.sha256,
                          seconds=round(time.perf_counter() - started, 3), **values)


def probe_trajectory(trajectory: Trajectory, probe: Probe, path: Path,
                     log: Callable[[str], None] = print) -> InformationPlane:
    """Measure every snapshot that ``path`` does not hold yet; each is written at once, by rank 0. Processes
    share the snapshots.

    Raises:
        SnapshotError: a snapshot is missing or damaged, before any is measured.
        ConfigError: ``path`` was measured with other settings.
    """
    rank = get_rank()
    probe.log = log if rank == 0 else (lambda line: None)

    on_main(trajectory.check)
    notes = probe.notes(trajectory)  # reads the images, on all processes: some data sets wait for each other
    plane = on_main(lambda: InformationPlane.continue_from(path, probe.settings, notes))
    probe.warn_if_seen(trajectory, log)
    todo = [snapshot for snapshot in trajectory if not plane.has(snapshot.time, snapshot.sha256)]
    if len(todo) < len(trajectory):
        log(f'Probe: {len(trajectory) - len(todo)} of {len(trajectory)} snapshots were measured before')
    word = WORDS[trajectory.unit]
    plane.points = [point for point in plane.points if point.epoch in trajectory.times]

    def keep(points: list[PlanePoint]) -> None:
        for point in points:
            plane.add(point)
            log(f'Probe: {word} {point.epoch:>4}  I(X;F) {point.information_x:.5f} nats  I(Y;F) '
                f'{point.information_y:.4f}  {point.seconds:.1f} s')
        if rank == 0:
            plane.save(path)

    share_snapshots(todo, probe.measure, keep, log, 'Probe')
    if rank == 0 and not todo:
        plane.save(path)
    if plane.uninformed:
        log(f'Warning: at {word}s {plane.uninformed} the decoder reconstructs images no better than their '
            'mean, so I(X;F) says little there: raise probe.decoder_epochs, or probe more images '
            '(probe.held_out, probe.num_images)')
    return plane
