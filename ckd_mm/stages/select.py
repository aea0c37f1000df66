"""Choose the snapshots that teach, T* or others (CheckpointKD, Algorithm 1, lines 4 and 5)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process

from ..counting import EPOCH, WORDS
from ..errors import ConfigError, SnapshotError
from ..evaluation import evaluate, top1
from ..files import sha256_of_file, write_json
from ..infoplane.probe import Probe
from ..pipeline.changes import Changes, named_by_type, training_changes
from ..pipeline.run import Run
from ..pipeline.stage import Check, Result, TeachingStage
from ..report.section import Section
from ..selection import Selection, SelectionContext, Selector
from ..teachers import SnapshotEnsemble, build_cohort
from ..teachers.snapshot_ensemble import find_snapshot
from ..trajectory import Snapshot, Trajectory
from .checks import check_predictions, check_teacher_weights
from .distillation import Distillation
from .probe import ProbeStage
from .selection_page import percent, selection_section, training_cost

SELECTION = 'selection.json'


@dataclass(kw_only=True)
class SelectResult(Result):
    """The snapshots that teach; also ``selection.json``. Of trajectories by iterations, epochs are these."""
    epochs: list[int]
    teachers: list[dict]  # as ckd_mm.teachers.SnapshotEnsemble takes snapshots
    selector: Any  # as the config names it
    by_trajectory: list[dict]  # its epochs, reason, scores, cost and training, see _part
    cohort_metrics: dict[str, float]  # of the chosen snapshots together, on the test set
    teacher_metrics: dict[str, float]  # of the last snapshot
    teacher_epoch: int
    members: list[dict]  # epoch, file, sha256 and metrics of each chosen snapshot


class SelectStage(TeachingStage[SelectResult]):
    """Select snapshots, and evaluate them and the last one on the test set.

    Args:
        teachers: stages that leave trajectories.
        probe: images for selectors that need some.
        plane: measures the information plane, where the config or the selector asks for it.
        make_task: from run and folder, the :class:`StudentTask` of selectors that train students.
    """
    name, Result = 'select', SelectResult

    def __init__(self, selector: Selector, teachers: Sequence[Any], probe: Probe | None,
                 plane: ProbeStage | None, distillation: Distillation,
                 make_task: Callable[[Run, Path], Any]) -> None:
        self.selector, self.teachers, self.probe, self.plane = selector, teachers, probe, plane
        if selector.needs_images and probe.probe_split == 'held_out':
            self.held_out = probe
        self.teacher, self.make_task = teachers[0].settings, make_task
        self.distill, self.schedule = distillation.settings, distillation.schedule
        self.requires = tuple(stage.name for stage in [*teachers, *([] if plane is None else [plane])])

    def trajectories(self, run: Run) -> list[Trajectory]:
        return [trajectory for teacher in self.teachers for trajectory in teacher.trajectories(run)]

    # ------------------------------------------------------------ before anything is trained
    def expected(self, run: Run) -> int:
        """How many snapshots will be chosen: a selector that does not go by the epoch chooses one of each
        trajectory."""
        first = self.teachers[0]
        if self.teacher.is_trained:
            each = self.selector.epochs(first.times(run), first.length(run))
            return len(self.teachers) * (1 if self.selector.measures else len(each))
        given = first.trajectories(run)
        return len(given if self.selector.measures else self.selector.candidates(given))

    def check_trained(self, run: Run) -> None:
        """Raises ConfigError if selector or schedule cannot work with the trainings to come."""
        if self.selector.needs_student:
            run.require_epochs(f'selector={run.config.selector!r}')
        if self.teacher.is_trained:
            self.selector.check([stage.times(run) for stage in self.teachers],
                                [stage.length(run) for stage in self.teachers])
            self.schedule.check(self.expected(run) // len(self.teachers))
        elif self.schedule.progressive and len(self.teacher.sources) > 1:
            raise ConfigError('distill.schedule: ProgressiveTeacherHook walks along one trajectory, but '
                              f'there are {len(self.teacher.sources)}')

    def check_chosen(self, run: Run) -> None:
        """Raises ConfigError unless every snapshot that will be chosen has a weight."""
        check_teacher_weights(self.distill.teacher_weights, self.expected(run))

    def checks(self, run: Run) -> Iterator[Check]:
        if not self.teacher.is_trained:
            yield Check('schedule', lambda: self._check_given(run))

    def _check_given(self, run: Run) -> str:
        chosen = self.expected(run)
        self.schedule.check_given(self.trajectories(run))
        if run.settings.heads is None:  # else the weights are of heads
            self.check_chosen(run)
        self.schedule.check(chosen)
        return f'fits the trajectory, of which {chosen} teach'

    def given(self, run: Run) -> tuple[list[Snapshot], bool]:
        if self.teacher.is_trained:
            return super().given(run)
        return self.selector.candidates(self.trajectories(run)), not self.selector.measures

    def exists(self, run: Run) -> bool:
        return not self.teacher.is_trained

    # ------------------------------------------------------------ the work
    def depends_on(self, run: Run) -> dict[str, Any]:
        found = dict(selector=run.config.get('selector', 'last'))
        if self.selector.needs_images:
            found['images'] = self.probe.settings
        if self.selector.needs_student:
            found['student'] = self.make_task(run, run.work_dir).settings
        if self.distill.cohort is not None:
            found['cohort'] = self.distill.cohort
        return found

    def changes(self, run: Run, before: dict[str, Any], now: dict[str, Any]) -> Changes:
        return training_changes(named_by_type(before), named_by_type(now), 'student.')

    def context(self, run: Run, folder: Path) -> SelectionContext:
        """What the selector may use; scores and short trainings are written to ``folder``."""
        if self.probe is None:
            return SelectionContext(folder=folder, log=run.log)
        self.probe.log = run.log
        return SelectionContext(probe=self.probe, student=self.make_task(run, folder), folder=folder,
                                log=run.log)

    def execute(self, run: Run) -> SelectResult:
        trajectories, contexts = self.trajectories(run), []
        for index in range(len(trajectories)):
            folder = run.work_dir / 'select' / (f'trajectory_{index + 1}' if index else '')
            contexts.append(self.context(run, folder))
            if self.plane is not None:
                contexts[-1].plane = self.plane.plane(run, index)
        selections = self.selector.select_all(trajectories, contexts)
        for trajectory, selection in zip(trajectories, selections):
            times = [snapshot.time for snapshot in selection.snapshots]
            word = WORDS[trajectory.unit]
            run.log(f'Selected {word}(s) {times} of {trajectory.folder}: {selection.reason}')
        result = self._evaluated(run, trajectories, selections)
        _write(run, result)
        return result

    def _evaluated(self, run: Run, trajectories: list[Trajectory],
                   selections: list[Selection]) -> SelectResult:
        chosen = [snapshot for selection in selections for snapshot in selection.snapshots]
        teachers = [as_teacher(trajectory, snapshot)
                    for trajectory, selection in zip(trajectories, selections)
                    for snapshot in selection.snapshots]
        config, last = run.student_training(), trajectories[0].last
        if self.teacher.is_trained or self.selector.measures:  # else they were looked at before
            check_predictions(run, chosen, given=not self.teacher.is_trained)
        alone = SnapshotEnsemble([last], class_map=self.class_map(run))
        teacher = evaluate(alone, config, run.log, 'the teacher')
        if self.schedule.progressive:
            cohort: dict[str, float] = {}  # they never teach together
        elif self.distill.cohort is None and not self.distill.precision and [
                item.file for item in chosen] == [last.file]:
            cohort = teacher
        else:
            cohort = evaluate(build_cohort(self._cohort(run, teachers)), config, run.log, 'the cohort')
        run.log(f'Teacher after {last.when}: {percent(top1(teacher))} top-1; cohort: '
                f'{percent(top1(cohort))}')
        return SelectResult(
            epochs=[snapshot.time for snapshot in chosen], teachers=teachers,
            selector=run.config.get('selector', 'last'), cohort_metrics=cohort, teacher_metrics=teacher,
            teacher_epoch=last.time, by_trajectory=[*map(_part, trajectories, selections)],
            members=[dict(epoch=snapshot.time, file=str(snapshot.file), sha256=snapshot.sha256,
                          metrics=snapshot.metrics) for snapshot in chosen])

    # ------------------------------------------------------------ teaching
    def class_map(self, run: Run) -> list[str | None] | None:
        return None if self.teacher.is_trained else self.teachers[0].class_map(run)

    def _cohort(self, run: Run, snapshots: list) -> dict[str, Any]:
        cohort, class_map = self.distill.cohort_of(snapshots, self.teacher.model), self.class_map(run)
        return cohort if class_map is None else dict(cohort, class_map=class_map)

    def chosen(self, run: Run) -> list[dict]:
        """The selected snapshots, in the folders that their trajectories have now: they may have been
        moved. In a rehearsal as many others."""
        if run.rehearses and self.name not in run.results:
            given, surely = self.given(run)
            last, count = self.teachers[0].trajectories(run)[0].last, self.expected(run)
            return [dict(file=str(snapshot.file), model=snapshot.model, strict=snapshot.strict)
                    for snapshot in (given[:count] if surely else [last] * count)]
        result = run.results[self.name]
        now = dict(zip((part['trajectory'] for part in result.by_trajectory), self.trajectories(run)))
        return [as_teacher(now[teacher['trajectory']], now[teacher['trajectory']].at(member['epoch']))
                for teacher, member in zip(result.teachers, result.members)]

    def cohort(self, run: Run) -> dict[str, Any]:
        return self._cohort(run, self.chosen(run))

    def fingerprint(self, run: Run) -> list[dict[str, Any]]:
        result, own = run.results[self.name], self.distill.cohort
        found = [dict(sha256=member['sha256'] or sha256_of_file(member['file']), model=teacher.get('model'))
                 for teacher, member in zip(result.teachers, result.members)]
        further = dict(cohort=own, class_map=self.class_map(run), dtype=self.distill.teacher_dtype,
                       strict=None if self.teacher.strict else False)
        return [*found, *({key: value} for key, value in further.items() if value is not None)]

    def verify(self, run: Run) -> None:
        for teacher, member in zip(self.chosen(run), run.results[self.name].members):
            snapshot = find_snapshot(teacher, self.teacher.model)
            snapshot.check_file()
            if snapshot.sha256 != member['sha256']:
                raise SnapshotError(f'snapshot {snapshot} is not the one that was selected: its manifest '
                                    'says another SHA-256. Restore the trajectory, or choose another '
                                    '--work-dir')

    def report(self, run: Run, result: SelectResult) -> Section:
        _write(run, result)  # again: it may have been damaged while the student was trained
        return selection_section(result, self.schedule.progressive, run.length.unit)


def _write(run: Run, result: SelectResult) -> None:
    """For people and tools; the run itself goes by ``stages.json``."""
    if is_main_process():
        write_json(run.work_dir / SELECTION, result.to_dict())


def as_teacher(trajectory: Trajectory, snapshot: Any) -> dict[str, Any]:
    """A snapshot as a config of :class:`ckd_mm.teachers.SnapshotEnsemble` names it."""
    teacher = {'trajectory': str(trajectory.folder), snapshot.unit: snapshot.time}
    known = trajectory.has_manifest and snapshot.model == trajectory.info.get('model')
    return dict(teacher, **({} if known else dict(model=snapshot.model)),
                **({} if snapshot.strict else dict(strict=False)))


def _part(trajectory: Trajectory, selection: Selection) -> dict[str, Any]:
    return dict(trajectory=str(trajectory.folder),
                epochs=[snapshot.time for snapshot in selection.snapshots], reason=selection.reason,
                candidates=trajectory.times, scores=selection.scores, score_unit=selection.score_unit,
                cost=selection.cost, training=training_cost(selection.snapshots),
                **({} if trajectory.unit == EPOCH else dict(unit=trajectory.unit)))
