"""Measure the information plane of the teacher's trajectory (CheckpointKD, Sec. 4.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..infoplane import PLANE, InformationPlane
from ..infoplane.probe import Probe, probe_trajectory
from ..pipeline.run import Run
from ..pipeline.stage import Result, Stage
from ..report.section import Plane, Section, Table
from ..selection import Selector
from ..settings import Settings, setting

WHERE = {'held_out': 'images held out from the training set',
         'test': 'images of the test set, as in the papers: the choice of teacher has seen the test labels'}


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(Settings):
    """``probe``: which images are looked at, and how the decoder that reconstructs them is trained."""
    probe_split: str = setting('held_out', choices=('held_out', 'test'), help="'held_out': training images "
                                                                              "that the "
                               "teacher does not see; 'test': the test set, as in the papers, which lets "
                               "the choice "
                               'of teacher see the test labels')
    held_out: float | int = setting(0.1, above=0, help='how much of the training set is held out: a '
                                                       'fraction, or a number of images')
    num_images: int | None = setting(5000, at_least=3, help='at most so many of them are looked at')
    seed: int = setting(0, at_least=0, help="of the held-out part, of the draw of images, and of the decoder")
    decoder_epochs: int = setting(10, at_least=1, help='passes of the decoder over its part of the images')
    decoder_lr: float = setting(0.003, above=0, help='learning rate of Adam, decayed to 0 by a cosine')
    decoder_batch: int = setting(64, at_least=1, help='images a step of the decoder')
    decoder_widen: int = setting(1, at_least=1, help='12 times so many channels inside the decoder')
    fit_fraction: float = setting(0.8, above=0, help='part of the images that the decoder learns from; its '
                                                     'loss is measured on the rest')
    reconstruct_size: int | None = setting(None, at_least=1, help='height and width in pixels to which '
                                                                  'images are averaged before they are '
                                                                  'reconstructed; default: their own')


def make_probe(run: Run, selector: Selector) -> Probe | None:
    """The images that the run's ``probe`` names, or that its selector needs.

    Raises:
        ConfigError: the selector needs a probe, and there is none.
    """
    if run.settings.probe is not None:
        return Probe(run.student_training(), **run.settings.probe.given)
    if selector.needs_plane and 'probe' in run.config:
        raise ConfigError(f'probe=None, but the selector {run.config.get("selector")} needs the information '
                          'plane; give a probe, or choose another selector')
    return Probe(run.student_training()) if selector.needs_plane or selector.needs_images else None


@dataclass(kw_only=True)
class ProbeResult(Result):
    """
    Args:
        best_epochs: T* of each trajectory.
        seconds_a_snapshot: mean.
    """
    best_epochs: list[int]
    seconds_a_snapshot: float | None


class ProbeStage(Stage[ProbeResult]):
    """I(X;F) and I(Y;F) of every snapshot, in ``information_plane.json``.

    Args:
        probe: images and settings.
        teachers: stages that leave trajectories.
    """
    name = 'probe'
    Result = ProbeResult

    def __init__(self, probe: Probe, teachers: Sequence[Any]) -> None:
        self.probe, self.teachers = probe, list(teachers)
        self.requires = tuple(teacher.name for teacher in teachers)

    def depends_on(self, run: Run) -> dict[str, Any]:
        return self.probe.settings

    def path(self, run: Run, index: int) -> Path:
        """Of the plane of the ``index``-th trajectory."""
        return run.work_dir / (PLANE if index == 0 else PLANE.replace('.json', f'_{index + 1}.json'))

    def plane(self, run: Run, index: int) -> InformationPlane:
        return InformationPlane.load(self.path(run, index))

    def execute(self, run: Run) -> ProbeResult:
        trajectories = [item for teacher in self.teachers for item in teacher.trajectories(run)]
        planes = [probe_trajectory(trajectory, self.probe, self.path(run, index), run.log)
                  for index, trajectory in enumerate(trajectories)]
        seconds = [point.seconds for point in planes[-1].points]
        return ProbeResult(best_epochs=[plane.best_epoch for plane in planes],
                           seconds_a_snapshot=round(sum(seconds) / len(seconds), 3) if seconds else None)

    def report(self, run: Run, result: ProbeResult) -> Section:
        chosen = [part['epochs']
                  for part in run.results['select'].by_trajectory] if 'select' in run.results else []
        section = Section(title='Information plane')
        for index, _ in enumerate(result.best_epochs):
            epochs = chosen[index] if index < len(chosen) else []
            _show_plane(section, self.plane(run, index), epochs, self.path(run, index).name)
        return section


def _show_plane(section: Section, plane: InformationPlane, epochs: Sequence[int], file: str) -> None:
    notes = plane.notes
    section.planes.append(Plane(file, list(epochs)))
    seen, where = notes.get('teacher_trained_on_probe_images'), WHERE.get(notes.get('probe_split'), 'images')
    warnings = ['Nothing says that this teacher was trained without these images: its accuracy on them means '
                'little.'] \
        if seen else []
    if plane.uninformed:
        warnings.append(
            f'At epochs {", ".join(map(str, plane.uninformed))} the decoder reconstructs images no better '
            'than their mean: I(X;F) says little there. Probe longer (decoder_epochs) or more images.')
    rows = [[point.epoch, point.information_x, 100 * point.information_y, row['x'], row['y'], row['sum']]
            for point, row in zip(plane.points, plane.normalised())]
    section.tables.append(
        Table(
            {
                'epoch': 'd', 'I(X;F), nats': '.5f', 'I(Y;F), %': '.2f', 'normalised X': '.3f',
                'normalised Y': '.3f', 'sum': '.3f'
            }, rows, [index for index, point in enumerate(plane.points) if point.epoch in epochs],
            f'Probed on {notes.get("images")} {where}. I(X;F): how much better a decoder reconstructs the '
            'image with the features than without (nats per pixel and channel). I(Y;F): accuracy.', warnings))
