"""Choose which snapshots teach (CheckpointKD, Algorithm 1), and measure them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from torch import nn

from ..errors import ConfigError, SnapshotError
from ..evaluation import check_recorded_accuracy, evaluate, top1
from ..evaluation.evaluate import require_same_classes
from ..files import sha256_of_file, write_json
from ..pipeline.data_sets import class_names
from ..pipeline.run import Run
from ..pipeline.stage import Check, Result, TeachingStage, without_files
from ..registry import MODELS
from ..report.section import Accuracy, Section
from ..selection import Selection, SelectionContext, Selector
from ..teachers import BaseCohort, SnapshotEnsemble
from ..teachers.snapshot_ensemble import find_snapshot
from ..trajectory import Snapshot, Trajectory
from .distillation import Distillation
from .probe import Probe, ProbeStage
from .selection_page import percent, score_table, selector_text, training_cost, who_teaches

SELECTION = 'selection.json'


@dataclass(kw_only=True)
class SelectResult(Result):
    """
    Args:
        epochs: of the snapshots that teach.
        teachers: these snapshots, as :class:`ckd_mm.teachers.SnapshotEnsemble` takes them.
        selector: as the config names it.
        by_trajectory: for each trajectory its ``epochs``, the ``reason``, ``scores`` and ``cost``.
        cohort_metrics, teacher_metrics: on the test set, of those who teach and of the last snapshot.
        teacher_epoch: of the last snapshot.
        members: of those who teach ``epoch``, ``file``, ``sha256``, ``metrics``.
    """
    epochs: list[int]
    teachers: list[dict]
    selector: Any
    by_trajectory: list[dict]
    cohort_metrics: dict[str, float]
    teacher_metrics: dict[str, float]
    teacher_epoch: int
    members: list[dict]


class SelectStage(TeachingStage[SelectResult]):
    """
    Args:
        selector: chooses.
        teachers: stages that leave trajectories.
        probe: images that it may look at.
        plane: measures the information plane, if the config asks for it.
        distillation: what the student wants of its teachers.
        make_task: from run and folder what selectors that train for a short time train.
    """
    name, Result = 'select', SelectResult

    def __init__(self, selector: Selector, teachers: Sequence[Any], probe: Probe | None,
                 plane: ProbeStage | None, distillation: Distillation, make_task: Any) -> None:
        self.selector, self.teachers, self.probe, self.plane = selector, list(teachers), probe, plane
        self.distillation, self.make_task = distillation, make_task
        self.requires = tuple(stage.name for stage in [*teachers, *([] if plane is None else [plane])])

    # ------------------------------------------------------------ what can be known before
    def trajectories(self, run: Run) -> list[Trajectory]:
        return [trajectory for teacher in self.teachers for trajectory in teacher.trajectories(run)]

    @property
    def selects_by_epoch(self) -> bool:
        selector = self.selector
        return not (selector.needs_plane or selector.needs_images or selector.needs_student)

    def expected(self, run: Run) -> int:
        """How many snapshots will be chosen: the epochs tell, and a selector that looks at more chooses one
        of each training."""
        first = self.teachers[0]
        if first.settings.is_trained:
            each = len(self.selector.epochs(first.epochs(run),
                                            first.max_epochs(run))) if self.selects_by_epoch else 1
            return len(self.teachers) * each
        given = first.trajectories(run)
        if not self.selects_by_epoch:
            return len(given)
        return sum(
            len(found.snapshots)
            for found in self.selector.select_all(given, [SelectionContext()] * len(given)))

    def check_trained(self, run: Run) -> None:
        """Of trainings yet to come the epochs are known.

        Raises:
            ConfigError: the selector or the schedule cannot work with them.
        """
        schedule = self.distillation.schedule
        if self.selector.needs_plane or self.selector.needs_images:
            schedule.check(1)  # such a selector takes long, and chooses the best snapshot of a trajectory
        if self.teachers[0].settings.is_trained:
            self.selector.check([stage.epochs(run) for stage in self.teachers],
                                [stage.max_epochs(run) for stage in self.teachers])
            if self.selects_by_epoch:
                schedule.check(self.expected(run) // len(self.teachers))
        elif schedule.progressive and len(self.teachers[0].settings.folders) > 1:
            raise ConfigError('distill.schedule: ProgressiveTeacherHook walks along one trajectory, but '
                              f'there are {len(self.teachers[0].settings.folders)}')

    def checks(self, run: Run) -> Iterator[Check]:
        if not self.teachers[0].settings.is_trained:
            yield Check('schedule', lambda: self._check_given(run))
        if self.distillation.settings.cohort is not None:
            yield Check('cohort', lambda: self._check_cohort(run))

    def _check_given(self, run: Run) -> str:
        schedule, chosen = self.distillation.schedule, self.expected(run)
        schedule.check_given(self.trajectories(run))
        if run.settings.heads is None:  # they check it themselves
            self.check_chosen(chosen)
        schedule.check(chosen)
        return f'fits the trajectory, of which {chosen} teach'

    def _check_cohort(self, run: Run) -> str:
        cohort = self.example(run)
        if not isinstance(cohort, BaseCohort):
            raise ConfigError(f'distill.cohort={self.distillation.settings.cohort!r} builds a '
                              f'{type(cohort).__name__}, which is no ckd_mm.teachers.BaseCohort; subclass '
                              'that')
        return type(cohort).__name__

    def check_chosen(self, chosen: int) -> None:
        """
        Raises:
            ConfigError: not every snapshot has a weight.
        """
        weights = self.distillation.settings.teacher_weights
        if weights is not None and len(weights) != chosen:
            raise ConfigError(f'distill.teacher_weights={list(weights)} should be {chosen} numbers, one for '
                              'each teacher')

    # ------------------------------------------------------------ the work
    def depends_on(self, run: Run) -> dict[str, Any]:
        found = dict(selector=run.config.get('selector', 'last'))
        if self.selector.needs_images:
            found['images'] = self.probe.settings
        if self.selector.needs_student:
            found['student'] = self.make_task(run, run.work_dir).settings
        if self.distillation.settings.cohort is not None:
            found['cohort'] = self.distillation.settings.cohort
        return found

    def context(self, run: Run, folder: Path) -> SelectionContext:
        """What the selector may look at; scores and short trainings are kept in ``folder``."""
        if self.probe is not None:
            self.probe.log = run.log
        student = None if self.probe is None else self.make_task(run, folder)
        return SelectionContext(probe=self.probe, student=student, folder=Path(folder), log=run.log)

    def execute(self, run: Run) -> SelectResult:
        trajectories, contexts = self.trajectories(run), []
        for index in range(len(trajectories)):
            folder = run.work_dir / 'select'
            contexts.append(self.context(run, folder if index == 0 else folder / f'trajectory_{index + 1}'))
            if self.plane is not None:
                contexts[-1].plane = self.plane.plane(run, index)
        selections = self.selector.select_all(trajectories, contexts)
        for trajectory, selection in zip(trajectories, selections):
            epochs = [snapshot.epoch for snapshot in selection.snapshots]
            run.log(f'Selected epoch(s) {epochs} of {trajectory.folder}: {selection.reason}')
        result = self._measured(run, trajectories, selections)
        if is_main_process():
            write_json(run.work_dir / SELECTION, result.to_dict())
        return result

    def _measured(self, run: Run, trajectories: list[Trajectory],
                  selections: list[Selection]) -> SelectResult:
        chosen = [snapshot for selection in selections for snapshot in selection.snapshots]
        teachers = [
            as_teacher(trajectory, snapshot) for trajectory, selection in zip(trajectories, selections)
            for snapshot in selection.snapshots
        ]
        config, last = run.student_training(), trajectories[0].last
        for snapshot in chosen:
            check_recorded_accuracy(snapshot, config)
        teacher = evaluate(SnapshotEnsemble([last]), config, run.log, 'the teacher')
        if self.distillation.schedule.progressive:
            cohort: dict[str, float] = {}  # they never teach together
        elif len(chosen) == 1 and chosen[0].file == last.file and self.distillation.settings.cohort is None:
            cohort = teacher
        else:
            cohort = evaluate(MODELS.build(self._cohort(teachers)), config, run.log, 'the cohort')
        run.log(f'Teacher after epoch {last.epoch}: {percent(top1(teacher))} top-1; who teaches: '
                f'{percent(top1(cohort))}')
        return SelectResult(
            epochs=[snapshot.epoch for snapshot in chosen], teachers=teachers,
            selector=run.config.get('selector', 'last'), cohort_metrics=cohort, teacher_metrics=teacher,
            teacher_epoch=last.epoch, by_trajectory=[
                _part(trajectory, selection) for trajectory, selection in zip(trajectories, selections)],
            members=[dict(epoch=snapshot.epoch, file=str(snapshot.file), sha256=snapshot.sha256,
                          metrics=snapshot.metrics) for snapshot in chosen])

    # ------------------------------------------------------------ teaching
    def _cohort(self, snapshots: list) -> dict[str, Any]:
        own = self.distillation.settings.cohort or dict(type='ckd_mm.SnapshotEnsemble')
        return dict(own, snapshots=snapshots, model=self.teachers[0].settings.model)

    def chosen(self, run: Run) -> list[dict]:
        """The snapshots that were selected, in the folders where the config has their trajectories now: they
        may have been moved."""
        result = run.results[self.name]
        folders = dict(zip((part['trajectory'] for part in result.by_trajectory),
                           (str(trajectory.folder) for trajectory in self.trajectories(run))))
        return [dict(teacher, trajectory=folders.get(teacher['trajectory'], teacher['trajectory']))
                for teacher in result.teachers]

    def cohort(self, run: Run) -> dict[str, Any]:
        return self._cohort(self.chosen(run))

    def fingerprint(self, run: Run) -> list[dict[str, Any]]:
        result = run.results[self.name]
        found = [dict(sha256=member['sha256'] or sha256_of_file(member['file']), model=teacher.get('model'))
                 for teacher, member in zip(result.teachers, result.members)]
        own = self.distillation.settings.cohort
        return found if own is None else [*found, dict(cohort=without_files(own))]

    def verify(self, run: Run) -> None:
        classes = class_names(run.config.train_dataloader.dataset)
        for teacher, member in zip(self.chosen(run), run.results[self.name].members):
            snapshot = find_snapshot(teacher, self.teachers[0].settings.model)
            snapshot.check_file()
            if snapshot.sha256 != member['sha256']:
                raise SnapshotError(f'snapshot {snapshot} is not the one that was selected: its manifest '
                                    'says another SHA-256. Restore the trajectory, or choose another '
                                    '--work-dir')
            require_same_classes(snapshot, classes, 'the classes of its training set')

    def example(self, run: Run) -> nn.Module:
        snapshot: Snapshot = self.teachers[0].example(run)
        count = 1 if self.distillation.schedule.progressive else self.expected(run)
        config = self._cohort([snapshot] * count)
        try:
            return MODELS.build(config)
        except Exception as error:  # whatever a cohort of somebody's own says
            if self.distillation.settings.cohort is None:
                raise
            raise ConfigError(f'distill.cohort={self.distillation.settings.cohort!r} cannot be built with '
                              f'snapshots=[...] and model=...: {type(error).__name__}: {error}') from error

    # ------------------------------------------------------------ the page
    def report(self, run: Run, result: SelectResult) -> Section:
        progressive, parts = self.distillation.schedule.progressive, result.by_trajectory
        teacher, cohort = top1(result.teacher_metrics), top1(result.cohort_metrics)
        reason = '; '.join(part['reason'] for part in parts)
        selector = selector_text(result.selector)
        hours = [part['training']['hours'] for part in parts]
        section = Section(title='Who teaches, and why', accuracies=[
                              Accuracy('teacher', f'after its last epoch, {result.teacher_epoch}', teacher,
                                       'teacher'),
                              Accuracy('who teaches', who_teaches(result, progressive), cohort, 'teacher')
                          ], paragraphs=[f'Selector: {selector}.'],
                          lines=[f'selected by {selector}: {reason}'],
                          starred={'teacher': result.epochs} if len(parts) == 1 else {},
                          cost=dict(teacher_epochs=sum(part['training']['epochs'] for part in parts),
                                    teacher_hours=None if None in hours else sum(hours)),
                          summary=dict(teacher=dict(accuracy_top1=teacher, epoch=result.teacher_epoch,
                                                    metrics=result.teacher_metrics),
                                       cohort=dict(accuracy_top1=cohort, size=len(result.epochs),
                                                   metrics=result.cohort_metrics),
                                       selection=dict(epochs=result.epochs,
                                                      by_training=[part['epochs'] for part in parts],
                                                      in_turn=progressive, selector=result.selector,
                                                      reason=reason)))
        section.paragraphs.extend(f'{part["reason"]}; candidates: epochs '
                                  f'{", ".join(map(str, part["candidates"]))}.'
                                  for part in parts)
        spent = [part['cost'] for part in parts if part['cost'].get('seconds')]
        if spent:
            section.paragraphs.append(
                f'Choosing took {sum(cost["teacher_forwards"] for cost in spent):,.0f} forward passes of one '
                'image through the teacher, or what equals them in operations, and '
                f'{sum(cost["seconds"] for cost in spent):.1f} s.')
        section.tables.extend(table for table in map(score_table, parts) if table is not None)
        return section


def as_teacher(trajectory: Trajectory, snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as a config of :class:`ckd_mm.teachers.SnapshotEnsemble` names it."""
    teacher = dict(trajectory=str(trajectory.folder), epoch=snapshot.epoch)
    return teacher if trajectory.has_manifest else dict(teacher, model=snapshot.model)


def _part(trajectory: Trajectory, selection: Selection) -> dict[str, Any]:
    return dict(trajectory=str(trajectory.folder),
                epochs=[snapshot.epoch for snapshot in selection.snapshots], reason=selection.reason,
                candidates=trajectory.epochs, scores=selection.scores, score_unit=selection.score_unit,
                cost=selection.cost, training=training_cost(selection.snapshots))
