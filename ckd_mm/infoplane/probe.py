"""Measure a trajectory; the hook, the runner and tools/probe.py all come here."""

import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_rank

from ..distributed import on_main
from ..errors import CkdError, ConfigError
from ..files import plain
from ..trajectory import Trajectory, share_snapshots
from ..validate import check_int
from .estimators import EstimatorSettings, ProbeImages, estimate_point
from .images import load_probe_images, probe_dataset
from .plane import InformationPlane, PlanePoint


class Probe:
    """Images and settings, the same for every snapshot.

    Args:
        config: of the run (its data sets are used).
        probe_split: 'held_out' (default) or 'test', see :func:`probe_dataset`.
        held_out: how much of the training set is held out: a fraction, or a number of images.
        num_images: probe at most this many of them.
        seed: of the held-out part and the draw of images.
        estimator: further settings, see :class:`EstimatorSettings`.
    """

    def __init__(self, config: dict, probe_split: str = 'held_out', held_out: float | int = 0.1,
                 num_images: int | None = 5000, seed: int = 0, **estimator: Any) -> None:
        known = list(EstimatorSettings.__dataclass_fields__)
        unknown = sorted(set(estimator) - set(known))
        if unknown:
            raise ConfigError(f'probe: unknown setting {unknown[0]!r}; known are probe_split, held_out, '
                              f'num_images and {sorted(known)}')
        if num_images is not None:
            check_int('probe: num_images', num_images, 3)
        self.estimator = EstimatorSettings(seed=seed, **estimator)
        self.probe_split, self.held_out, self.num_images, self.seed = probe_split, held_out, num_images, seed
        self.dataset = probe_dataset(config, probe_split, held_out, seed)
        self._images: ProbeImages | None = None
        self.log: Callable[[str], None] = print

    @property
    def settings(self) -> dict[str, Any]:
        """Everything the numbers depend on besides the snapshots."""
        held_out = self.held_out if self.probe_split == 'held_out' else None
        return plain(dict(self.estimator.to_dict(), probe_split=self.probe_split, num_images=self.num_images,
                          held_out=held_out, dataset=self.dataset))

    @property
    def images(self) -> ProbeImages:
        if self._images is None:
            self._images = load_probe_images(self.dataset, self.num_images, self.seed, self.log)
        return self._images

    def was_seen(self, trajectory: Trajectory) -> bool | None:
        """Whether the teacher may have been trained on the images; None of test images."""
        if self.probe_split == 'test':
            return None
        return trajectory.info.get('held_out') != plain(held_out_record(self.held_out, self.seed))

    def warn_if_seen(self, trajectory: Trajectory, log: Callable[[str], None]) -> None:
        if self.was_seen(trajectory):
            log('Warning: the trajectory does not say that its teacher was trained without the held-out '
                "images; accuracy on images it has seen says little. Use probe_split='test', or images of "
                'your own, to be sure')

    def notes(self, trajectory: Trajectory) -> dict[str, Any]:
        images = self.images
        return dict(probe_split=self.probe_split, images=len(images),
                    image_size=list(images.pixels.shape[1:]),
                    images_sha256=hashlib.sha256(images.pixels.numpy().tobytes()).hexdigest(),
                    teacher_trained_on_probe_images=self.was_seen(trajectory))

    def measure(self, network: torch.nn.Module, epoch: int, sha256: str | None) -> PlanePoint:
        started = time.perf_counter()
        device = torch.device(get_device())
        values = estimate_point(network, self.images, self.estimator, device, self.log)
        if not math.isfinite(values['information_x']):
            raise CkdError(f'probe: I(X;F) of the snapshot of epoch {epoch} is not finite: its features hold '
                           'NaN or infinity, the training had diverged. Leave the snapshot out of the '
                           'trajectory')
        return PlanePoint(epoch=epoch, sha256=sha256, seconds=round(time.perf_counter() - started, 3),
                          **values)


def held_out_record(held_out: float | int, seed: int) -> dict[str, Any]:
    """How a trajectory's manifest says what its teacher was not trained on."""
    return dict(held_out=held_out, seed=seed)


def probe_trajectory(trajectory: Trajectory, probe: Probe, path: Path,
                     log: Callable[[str], None] = print) -> InformationPlane:
    """Measure every snapshot that ``path`` does not hold yet; each is written down when it is known.

    Snapshots are shared over the processes of a distributed run; rank 0 alone writes.

    Raises:
        SnapshotError: a snapshot is missing or damaged, before any is measured.
        ConfigError: ``path`` was measured with other settings.
    """
    rank = get_rank()
    probe.log = log if rank == 0 else (lambda line: None)

    def begin() -> InformationPlane:
        trajectory.check()  # reading every file once is enough
        return InformationPlane.continue_from(path, probe.settings, {})

    plane = on_main(begin)
    notes = probe.notes(trajectory)  # reads the images, on all processes: some data sets wait for each other
    plane.notes = plane.notes or plain(notes)
    probe.warn_if_seen(trajectory, log)
    todo = [snapshot for snapshot in trajectory if not plane.has(snapshot.epoch, snapshot.sha256)]
    if len(todo) < len(trajectory):
        log(f'Probe: {len(trajectory) - len(todo)} of {len(trajectory)} snapshots were measured before')
    plane.points = [point for point in plane.points if point.epoch in trajectory.epochs]

    def keep(points: list[PlanePoint]) -> None:
        for point in points:
            plane.add(point)
            log(f'Probe: epoch {point.epoch:>4}  I(X;F) {point.information_x:.5f} nats  I(Y;F) '
                f'{point.information_y:.4f}  {point.seconds:.1f} s')
        if rank == 0:
            plane.save(path)

    share_snapshots(todo, lambda snapshot: probe.measure(snapshot.build(), snapshot.epoch, snapshot.sha256),
                    keep, log, 'Probe')
    if rank == 0 and not todo:
        plane.save(path)
    if plane.uninformed:
        log(f'Warning: at epochs {plane.uninformed} the decoder reconstructs images no better than their '
            'mean, so I(X;F) says little there: raise probe.decoder_epochs, or probe more images '
            '(probe.held_out, probe.num_images)')
    return plane
