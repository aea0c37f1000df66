"""Make each teacher's probabilities as sure as they are right, before they are averaged."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.device import get_device

from ..distributed import on_main
from ..errors import CkdError, ConfigError
from ..evaluation.logits import predict_logits
from ..evaluation.temperature import expected_calibration_error, fit_temperature
from ..infoplane.probe import Probe
from ..pipeline.run import Run
from ..pipeline.stage import Check, Result, TeachingStage
from ..report.section import Section, Table
from ..teachers.snapshot_ensemble import find_snapshot
from ..trajectory import Snapshot, share_snapshots
from .probe import SOURCES
from .select import SelectStage
from .selection_page import word_of

COLUMNS = {'temperature': '.3f', 'NLL before, nats': '.4f', 'after': '.4f',
           'calibration error before, %': '.2f', 'after, %': '.2f'}


@dataclass(kw_only=True)
class CalibrateResult(Result):
    """One of each teacher, in their order: temperature, and its numbers at temperature 1 and at its own."""
    temperatures: list[float]
    nll: list[list[float]]  # nats
    calibration_error: list[list[float]]  # 0 to 1
    images: int


class CalibrateStage(TeachingStage[CalibrateResult]):
    """``distill.calibrate``: the logits of each chosen snapshot are divided by a temperature of its own, the
    likeliest one on held-out images, before ``distill.tau`` softens them. A student learns more from teachers
    that are calibrated ("The Role of Teacher Calibration in Knowledge Distillation", arXiv 2508.20224).

    Args:
        select: chooses the snapshots.
        probe: the images.

    Raises:
        ConfigError: they teach in a way that has no temperature of their own.
    """
    name, Result = 'calibrate', CalibrateResult
    requires = ('select', )

    def __init__(self, select: SelectStage, probe: Probe) -> None:
        self.select, self.probe = select, probe
        self.held_out = probe if probe.probe_split == 'held_out' else None
        others = {'distill.cohort': select.distill.cohort, 'teacher.class_map': select.teacher.class_map,
                  'a ProgressiveTeacherHook': select.schedule.progressive}
        if given := [name for name, value in others.items() if value]:
            raise ConfigError('distill.calibrate scales the snapshots of a ckd_mm.SnapshotEnsemble, which '
                              f'teach all at once the classes they have; take it or {given[0]} out')

    def check_chosen(self, run: Run) -> None:
        self.select.check_chosen(run)

    def checks(self, run: Run) -> Iterator[Check]:
        if not self.select.teacher.is_trained:
            yield Check('images', lambda: self._check_given(run))

    def _check_given(self, run: Run) -> str:
        for trajectory in self.select.trajectories(run):
            if self.probe.was_seen(trajectory):
                raise ConfigError(f'distill.calibrate: nothing says that {trajectory.folder} was trained '
                                  'without the held-out images, and a teacher is surer of those it has seen; '
                                  "say probe_split='test', in probe or in distill.calibrate")
        return 'not seen by the teachers'

    def depends_on(self, run: Run) -> dict[str, Any]:
        return dict(images=self.probe.settings, teachers=on_main(lambda: self.select.fingerprint(run)))

    def execute(self, run: Run) -> CalibrateResult:
        snapshots = [find_snapshot(item, self.select.teacher.model) for item in self.select.chosen(run)]
        images = len(self.probe.images)  # on all processes: some data sets wait for each other
        found: list[dict[str, Any]] = []
        share_snapshots(snapshots, lambda snapshot: self._fitted(run, snapshot), found.extend, run.log,
                        'Calibration')
        result = CalibrateResult(**{key: [item[key] for item in found] for key in found[0]}, images=images)
        run.log(f'Temperatures of the teachers: {", ".join(f"{value:.3f}" for value in result.temperatures)}')
        return result

    def _fitted(self, run: Run, snapshot: Snapshot) -> dict[str, Any]:
        images = self.probe.images
        logits = predict_logits(snapshot.build(), images, torch.device(get_device()), log=run.log).double()
        try:
            temperature = fit_temperature(logits, images.labels)
        except CkdError as error:
            folder = str(self.select.trajectories(run)[0].folder)
            raise CkdError(f'distill.calibrate: snapshot {snapshot}: {error}. Take distill.calibrate out, or '
                           "give it probe_split='test', in another --work-dir with "
                           f'teacher=dict(trajectory={folder!r}): the teacher is kept') from error
        return dict(temperatures=temperature, **{
            key: [float(measure(scaled, images.labels)) for scaled in (logits, logits / temperature)]
            for key, measure in dict(nll=F.cross_entropy,
                                     calibration_error=expected_calibration_error).items()})

    # ------------------------------------------------------------ teaching
    def cohort(self, run: Run) -> dict[str, Any]:
        teachers, result = self.select.cohort(run), run.results.get(self.name)
        return teachers if result is None else dict(teachers, temperatures=result.temperatures)

    def fingerprint(self, run: Run) -> list[dict[str, Any]]:
        return [*self.select.fingerprint(run), dict(temperatures=run.results[self.name].temperatures)]

    def verify(self, run: Run) -> None:
        self.select.verify(run)

    def given(self, run: Run) -> tuple[list[Snapshot], bool]:
        return self.select.given(run)

    def exists(self, run: Run) -> bool:
        return self.select.exists(run)

    def report(self, run: Run, result: CalibrateResult) -> Section:
        selected = run.results['select']
        rows = [[time, temperature, *nll, *(100 * error for error in errors)]
                for time, temperature, nll, errors in zip(selected.epochs, result.temperatures, result.nll,
                                                           result.calibration_error)]
        columns = {word_of(selected.by_trajectory[0]): 'd', **COLUMNS}
        return Section(title='Calibration of the teachers', tables=[Table(columns, rows, caption=(
            f'The logits of each are divided by its temperature, fitted on {result.images} '
            f'{SOURCES[self.probe.probe_split]}.'))], summary=dict(temperatures=result.temperatures))
