"""Take a trajectory that exists instead of training a teacher."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from ..classifier_heads import number_of_classes
from ..data.labels import classes_of, require_same_classes
from ..distributed import on_main
from ..errors import ConfigError
from ..pipeline.run import Run
from ..pipeline.stage import Check, Stage
from ..progress import Progress
from ..report.section import Section
from ..selection import Selector
from ..teachers.class_map import class_map_of
from ..trajectory import Snapshot, Trajectory
from ..trajectory.download import local_file
from ..trajectory.snapshot import load_weights
from .checks import check_predictions
from .teacher import TeacherResult, TeacherSettings, teacher_training


class GivenTeacherStage(Stage[TeacherResult]):
    """Check and use the trajectories of ``teacher.trajectory`` or the checkpoints of ``teacher.checkpoint``.

    Args:
        probed: whether the information plane of their feature maps will be measured.
    """
    Result = TeacherResult
    name = 'teacher'

    def __init__(self, settings: TeacherSettings, selector: Selector, probed: bool) -> None:
        self.settings, self.selector, self.probed = settings, selector, probed
        self._opened: list[Trajectory] | None = None
        self._class_map: list[str | None] | None = None
        if settings.class_map is not False and (probed or selector.measures):
            what = 'the information plane' if probed else 'a selector that measures'
            raise ConfigError(f"teacher.class_map={settings.class_map!r}: {what} compares a teacher's "
                              "answers with labels, of its own classes; take selector='last' and no probe, "
                              'or class_map out')

    def trajectories(self, run: Run) -> list[Trajectory]:
        if self._opened is None:  # once: to open a folder of checkpoints one of them is read
            statistics = teacher_training(run, self.settings).get('data_preprocessor')
            self._opened = [Trajectory.open(local_file(source), None if model is None else dict(model))
                            for source, model in self.settings.sources]
            for trajectory in self._opened:
                trajectory.snapshots = [
                    replace(self._sized(_with_statistics(snapshot, statistics)), strict=self.settings.strict)
                    for snapshot in trajectory]
        return self._opened

    def _sized(self, snapshot: Snapshot) -> Snapshot:
        if None in (self.settings.input_size, snapshot.model):
            return snapshot
        preprocessor = self.settings.resizing(snapshot.model.get('data_preprocessor'))
        return replace(snapshot, model=dict(snapshot.model, data_preprocessor=preprocessor))

    def class_map(self, run: Run) -> list[str | None] | None:
        """Of the student's classes, see :class:`ckd_mm.teachers.class_map.ClassMap`; None: there is none.
        Raises ConfigError where the classes cannot be mapped."""
        given = self.settings.class_map
        if given is False:
            return None
        if self._class_map is None:
            images = 'train_dataloader.dataset'
            classes = classes_of(run.data_set(run.student_training().train_dataloader.dataset, images))
            if classes is None:
                raise ConfigError(f'teacher.class_map={given!r}: {images} does not name its classes, by '
                                  'which they are matched; give it metainfo=dict(classes=[...])')
            teachers = [(f'teacher {trajectory.last}', trajectory.last.classes)
                        for trajectory in self.trajectories(run)]
            self._class_map = class_map_of(list(classes), teachers, {} if given is True else dict(given))
        return self._class_map

    def depends_on(self, run: Run) -> dict[str, Any]:
        found = dict(snapshots=[[snapshot.time, snapshot.sha256, snapshot.size]
                                for trajectory in self.trajectories(run) for snapshot in trajectory])
        own = dict(input_size=self.settings.input_size, class_map=self.settings.class_map or None,
                   strict=None if self.settings.strict else False)
        return found | {key: value for key, value in own.items() if value is not None}

    def execute(self, run: Run) -> TeacherResult:
        found = self.trajectories(run)
        return TeacherResult(trajectories=[str(trajectory.folder) for trajectory in found],
                             epochs=found[0].times, trained=False)

    def checks(self, run: Run) -> Iterator[Check]:
        if self.name in run.over:  # only its settings are compared
            yield Check('trajectory', lambda: f'{len(self.trajectories(run))} found')
            return
        yield Check('snapshots', lambda: on_main(lambda: self._check_files(run)))
        yield Check('trajectory', lambda: self._check_trajectories(run))
        yield Check('predictions', lambda: self._check_predictions(run))

    def _check_files(self, run: Run) -> str:
        """All are whole and of their network; those that may be chosen or probed are finite. Of a selection
        that is done only the chosen ones are looked at."""
        found, selected = self.trajectories(run), run.results.get('select')
        read = [trajectory.snapshots for trajectory in found] if selected is None else [
            [trajectory.at(time) for time in part['epochs']]
            for trajectory, part in zip(found, selected.by_trajectory)]
        used = self.selector.candidates(found) if selected is None and not self.probed else sum(read, [])
        progress = Progress(run.log, 'Reading snapshot', sum(map(len, read)))
        for snapshots in filter(None, read):
            network = snapshots[-1].build()
            for snapshot in snapshots:
                check_weights(snapshot, network, finite=snapshot in used)
                progress.step()
        return (f'{sum(map(len, read))} whole and of their network, {len(used)} that may teach or are probed '
                'finite')

    def _check_trajectories(self, run: Run) -> str:
        found = self.trajectories(run)
        self.selector.check([item.times for item in found], [item.length for item in found])
        return '; '.join(self._check_last(trajectory, run) for trajectory in found)

    def _check_predictions(self, run: Run) -> str:
        """Of the teachers, or where the selector measures, of the best snapshot of each trajectory, and in
        short of all that it may choose."""
        found, measures = self.trajectories(run), self.selector.measures
        candidates, best = self.selector.candidates(found), [
            max(trajectory, key=lambda snapshot: (snapshot.accuracy or 0, snapshot.time))
            for trajectory in found]
        if not measures:
            return check_predictions(run, candidates, class_map=self.class_map(run))
        others = [snapshot for snapshot in candidates if snapshot not in best]
        return check_predictions(run, best, surely=False, others=others)

    def _check_last(self, trajectory: Trajectory, run: Run) -> str:
        """The last snapshot fits the student's images and classes."""
        snapshot, config = trajectory.last, run.student_training()
        network = snapshot.build()
        found = (f'{trajectory.folder}: {len(trajectory)} snapshots, {trajectory.length.words} '
                 f'{trajectory.times[0]} to {trajectory.times[-1]}' if len(trajectory) > 1 else f'{snapshot}')
        if (class_map := self.class_map(run)) is not None:
            shared = len(class_map) - class_map.count(None)
            return f'{found}, {shared} of {len(class_map)} classes shared'
        classes = number_of_classes(network)
        wanted = number_of_classes(run.config.model)
        if None not in (classes, wanted) and classes != wanted:
            raise ConfigError(f'teacher {snapshot} has {classes} classes and '
                              f'model.head.num_classes={wanted}; distillation of logits needs the same '
                              'classes, or teacher.class_map=True, which compares those of the same name')
        images = 'train_dataloader.dataset'
        require_same_classes(f'teacher {snapshot}', snapshot.classes, images,
                             classes_of(run.data_set(config.train_dataloader.dataset, images)))
        return found

    def report(self, run: Run, result: TeacherResult) -> Section:
        """The validation curve that the first trajectory recorded, if it counts what the student counts."""
        return Section(curves={'teacher': [[snapshot.time, snapshot.accuracy]
                                           for snapshot in self.trajectories(run)[0]
                                           if snapshot.accuracy is not None
                                           and snapshot.unit == run.length.unit]})


def check_weights(snapshot: Snapshot, network: nn.Module, finite: bool = True) -> None:
    """Raises SnapshotError if the file is missing or damaged, or the weights are of another network than this
    or, where they should be, not finite."""
    load_weights(network, snapshot.state_dict(finite), str(snapshot), snapshot.model, snapshot.strict)


def _with_statistics(snapshot: Snapshot, statistics: dict | None) -> Snapshot:
    """A snapshot that does not say how its inputs were normalised was trained as the config says."""
    if snapshot.model is None or statistics is None or snapshot.model.get('data_preprocessor') is not None:
        return snapshot
    return replace(snapshot, model=dict(snapshot.model, data_preprocessor=dict(statistics)))
