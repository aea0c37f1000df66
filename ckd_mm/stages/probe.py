"""Measure I(X;F) and I(Y;F) of each checkpoint of the teacher (CheckpointKD, Algorithm 1, lines 2 and 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..counting import WORDS
from ..errors import ConfigError
from ..infoplane import PLANE, InformationPlane, extract_features, load_probe_images
from ..infoplane.probe import Probe, probe_trajectory
from ..pipeline.run import Run
from ..pipeline.stage import Result, Stage
from ..report.section import Plane, Section, Table
from ..selection import Selector

SOURCES = {'held_out': 'images held out from the training set',
           'test': 'images of the test set, as in the papers: the choice of teacher has seen the test labels'}
COLUMNS = {'I(X;F), nats': '.5f', 'I(Y;F), %': '.2f', 'normalised X': '.3f',
           'normalised Y': '.3f', 'sum': '.3f'}


def make_probe(run: Run, selector: Selector) -> Probe | None:
    """The images of the config's ``probe``, or else those of ``distill.calibrate`` or the default ones where
    they are needed. Raises ConfigError if the selector needs the information plane and the config says
    ``probe=None``, or if both name images."""
    calibrate = run.settings.distill.calibrate
    own = calibrate if isinstance(calibrate, dict) else {}
    if own and (run.settings.probe is not None or selector.needs_plane or selector.needs_images):
        raise ConfigError(f'distill.calibrate={own!r}: its images are those of `probe`; say it there, and '
                          'distill.calibrate=True')
    if run.settings.probe is not None:
        return Probe(run.student_training(), **run.settings.probe.given)
    if selector.needs_plane and 'probe' in run.config:
        raise ConfigError(f'probe=None, but the selector {run.config.get("selector")} needs the information '
                          'plane; give a probe, or choose another selector')
    needed = selector.needs_plane or selector.needs_images or calibrate
    return Probe(run.student_training(), **own) if needed else None


@dataclass(kw_only=True)
class ProbeResult(Result):
    """The planes themselves are in files of their own."""
    best_epochs: list[int]  # T* of each trajectory
    seconds_a_snapshot: float | None  # mean


class ProbeStage(Stage[ProbeResult]):
    """The information plane of each trajectory that the ``teachers`` leave, in
    ``information_plane.json``."""
    name = 'probe'
    Result = ProbeResult

    def __init__(self, probe: Probe, teachers: Sequence[Any]) -> None:
        self.probe, self.teachers, self.layer = probe, teachers, probe.options.layer
        self.held_out = probe if probe.probe_split == 'held_out' else None
        self.requires = tuple(teacher.name for teacher in teachers)

    def rehearse(self, run: Run) -> str:
        """Raises ConfigError where a network has no features to reconstruct images from, or the evaluation
        pipeline gives images that cannot be probed."""
        loader = run.config.get('test_dataloader') or run.config.val_dataloader
        images = load_probe_images(run.data_set(loader['dataset'], 'test_dataloader.dataset'), 2)
        features = [extract_features(trajectory.last.build(), images, torch.device('cpu'), layer=self.layer)
                    for trajectory in self.teachers[0].trajectories(run)]
        return ', '.join(f'features {tuple(found.maps.shape[1:])} of {found.layer}' for found in features)

    def depends_on(self, run: Run) -> dict[str, Any]:
        return self.probe.settings

    def path(self, run: Run, index: int) -> Path:
        """File of the plane of the ``index``-th trajectory."""
        return run.work_dir / (PLANE if index == 0 else PLANE.replace('.json', f'_{index + 1}.json'))

    def plane(self, run: Run, index: int) -> InformationPlane:
        return InformationPlane.load(self.path(run, index))

    def execute(self, run: Run) -> ProbeResult:
        trajectories = [trajectory for teacher in self.teachers for trajectory in teacher.trajectories(run)]
        planes = [probe_trajectory(trajectory, self.probe, self.path(run, index), run.log)
                  for index, trajectory in enumerate(trajectories)]
        seconds = [point.seconds for point in planes[-1].points]
        return ProbeResult(best_epochs=[plane.best_epoch for plane in planes],
                           seconds_a_snapshot=round(sum(seconds) / len(seconds), 3) if seconds else None)

    def report(self, run: Run, result: ProbeResult) -> Section:
        section = Section(title='Information plane')
        for index, part in enumerate(run.results['select'].by_trajectory):
            section.planes.append(Plane(self.path(run, index).name, part['epochs']))
            section.tables.append(plane_table(self.plane(run, index), part['epochs']))
        return section


def plane_table(plane: InformationPlane, chosen: Sequence[int]) -> Table:
    """
    Args:
        chosen: epochs of the snapshots that teach.
    """
    warnings = []
    if plane.notes.get('teacher_trained_on_probe_images'):
        warnings.append('Nothing says that this teacher was trained without these images: its accuracy on '
                        'them means little.')
    if plane.uninformed:
        warnings.append(
            f'At {WORDS[plane.unit]}s {", ".join(map(str, plane.uninformed))} the decoder reconstructs '
            'images no better than their mean: I(X;F) says little there. Probe longer (decoder_epochs) or '
            'more images.')
    source = SOURCES.get(plane.notes.get('probe_split'), 'images')
    rows = [[point.epoch, point.information_x, 100 * point.information_y, row['x'], row['y'], row['sum']]
            for point, row in zip(plane.points, plane.normalised())]
    return Table(
        {WORDS[plane.unit]: 'd', **COLUMNS}, rows,
        [index for index, point in enumerate(plane.points) if point.epoch in chosen],
        f'Probed on {plane.notes.get("images")} {source}. I(X;F): how much better a decoder reconstructs the '
        'image with the features than without (nats per pixel and channel). I(Y;F): accuracy.', warnings)
