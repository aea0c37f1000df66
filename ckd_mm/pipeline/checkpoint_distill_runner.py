"""Whole methods as one runner: teacher, probe, select, heads, hint, students, report."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmpretrain.registry import DATASETS

from ..compat import versions
from ..distributed import on_main
from ..errors import CkdError, ConfigError, SnapshotError
from ..evaluation import check_recorded_accuracy, evaluate, evaluate_members, top1
from ..evaluation.evaluate import require_same_classes
from ..files import plain, sha256_of_file, write_json
from ..infoplane import PLANE, InformationPlane
from ..infoplane.probe import probe_trajectory
from ..registry import MODELS, RUNNERS
from ..report import results_table, write_report
from ..selection import SelectionContext
from ..targets import TargetFile
from ..teachers import SnapshotEnsemble
from ..teachers.snapshot_ensemble import find_snapshot
from ..trajectory import MANIFEST, Snapshot, Trajectory
from .cost import training_cost
from .data_sets import class_names, image_shape
from .distillation_plan import HEADS, HINT, DistillationPlan, as_teacher, is_there
from .links import STUDENT, Link, chain_of
from .mutual_plan import MutualPlan
from .staged_runner import StagedRunner, trained_model
from .student_task import StudentTask, selection_context
from .summary import summarize
from .target_stage import make_targets, take_over, targets_fingerprint

SELECTION, SUMMARY, REPORT = 'selection.json', 'summary.json', 'report.html'
STOPS = ('teacher', 'probe', 'select', 'heads', 'targets')


@RUNNERS.register_module()
class CheckpointDistillRunner(StagedRunner):
    """Runs the stages of a checkpoint-distillation config (see :mod:`ckd_mm.pipeline.settings`).

    Set ``runner_type = 'ckd_mm.CheckpointDistillRunner'`` in a config and mmpretrain's own ``tools/train.py``
    and ``tools/test.py`` use it too. Each stage is an ordinary mmengine run in a folder of its own below
    ``work_dir``; a finished stage is written into ``stages.json`` and not repeated by a run with
    ``resume=True``, and an unfinished one goes on from its last checkpoint.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._just_read: set[Path] = set(
        )  # folders of targets whose SHA-256 this process knows to be right: to read them takes long

    def train(self, until: str | None = None) -> dict[str, Any] | None:
        """Run what is left to do.

        Args:
            until: the stage to stop after: 'teacher', 'probe', 'select', 'heads' or 'targets'. None runs them
                all.

        Returns:
            The content of ``summary.json``; None where it stops before.

        Raises:
            CkdError: before any training where possible, naming the setting or file.
        """
        if until is not None and until not in STOPS:
            raise ConfigError(f'until={until!r} is not a stage to stop after: {", ".join(map(repr, STOPS))}')
        self._start()
        self._require_nothing_between()
        self._require_students_turn()
        plan = self.plan
        if isinstance(plan, DistillationPlan):
            if until == 'targets' and plan.cache is None:
                raise ConfigError("until='targets': distill.cache is missing, so no targets are kept")
            if self._choose_teachers(plan, until):
                return None
            if self._distil(plan, until):
                return None
        else:
            if until is not None:
                raise ConfigError(f'until={until!r}: this config has no teacher, its first stage is the '
                                  'student')
            work = self._students_together if isinstance(plan, MutualPlan) else self._student_of_its_own
            self._stage(STUDENT, lambda: plan.student_config().to_dict(), work)
        for run in range(plan.students_alone):
            self._stage(plan.alone_stage(run), lambda run=run: plan.student_alone_config(run).to_dict(),
                        partial(self._student_alone, run))
        members = self._ensembles()
        if self.stages.is_done('ensembles') and {name: len(found) for name, found in members.items()} != {
                name: found['size'] for name, found in self.stages.result('ensembles').items()}:
            self.stages.forget('ensembles')  # there are more students now; to measure them anew costs little
        if members:
            self._stage('ensembles', lambda: members, lambda: self._evaluate_ensembles(members))
        return self._report()

    @staticmethod
    def _stages_in_turn(plan: DistillationPlan) -> list[str]:
        """From the first teacher to the student, each made from what is before it."""
        own = [name for name in ('heads', 'hint') if getattr(plan, name) is not None]
        links = [
            stage for link in plan.links
            for stage in ([] if plan.cache is None else [plan.targets_stage(link)]) + [link.stage]
        ]
        return [plan.teacher_stage(run) for run in range(max(plan.runs, 1))] + ['select', *own, *links]

    def _require_nothing_between(self) -> None:
        """
        Raises:
            ConfigError: a stage that the config has now comes before one that was begun without it.
        """
        if not isinstance(self.plan, DistillationPlan):
            return
        new = None
        for name in self._stages_in_turn(self.plan):
            if name not in self.stages.stages:
                new = new or name
            elif new is not None:
                how = 'finished' if self.stages.is_done(name) else 'started'
                raise ConfigError(f'stage {new} comes before stage {name}, which was {how} without it. '
                                  'Restore the settings, or choose '
                                  'another --work-dir (teacher=dict(trajectory=...) there reuses the '
                                  'snapshots)')

    def _require_students_turn(self) -> None:
        """
        Raises:
            ConfigError: the student is to go on from a checkpoint, but what comes before it is not finished.
        """
        if not (isinstance(self.plan, DistillationPlan) and self.cfg.get('resume')
                and self.cfg.get('load_from')):
            return
        before = self._stages_in_turn(self.plan)[-2]
        if not self.stages.is_done(before):
            raise ConfigError(f'--resume {self.cfg.load_from} names a checkpoint of the student, but the '
                              'stages before it are not '
                              f'finished in {self.work_dir}; pass --resume alone')

    def _choose_teachers(self, plan: DistillationPlan, until: str | None) -> bool:
        """Whether the run ends here."""
        for run in range(max(plan.runs, 1)):
            self._stage(plan.teacher_stage(run), partial(self._teacher_settings, run),
                        partial(self._teacher, run))
        if until == 'teacher':
            return True
        if plan.measures_plane:
            self._stage('probe', lambda: plan.probe.settings, self._probe)
        if until == 'probe':
            return True
        self._stage('select', self._select_settings, self._select)
        if until == 'select':
            return True
        if plan.heads is not None:
            config = cache(self._heads_config)
            self._stage('heads', lambda: self._heads_settings(config), lambda: self._heads(config))
        return until == 'heads'

    def _distil(self, plan: DistillationPlan, until: str | None) -> bool:
        """Whether the run ends here, before the student's training."""
        if plan.hint is not None:
            self._stage('hint', lambda: plan.hint_config(self._teachers_of(plan.links[0])).to_dict(),
                        self._hint)
        for link in plan.links:
            if plan.cache is not None:
                name = plan.targets_stage(link)
                if self.stages.is_done(name) and not self.stages.is_done(
                        link.stage) and not on_main(lambda link=link: plan.has_stopped() or TargetFile(
                            plan.targets_folder(link)).is_complete):
                    self.stages.forget(name)  # someone removed them
                asked = cache(partial(self._asked, link))
                self._stage(name, lambda asked=asked: self._targets_settings(*asked()),
                            lambda link=link, asked=asked: self._targets(link, *asked()))
            if until == 'targets' and link.stage == STUDENT:
                return True
            self._stage(link.stage, partial(self._link_settings, link), partial(self._link, link))
        return False

    def _may_have_changed(self, stage: str) -> bool:
        if stage not in ('teacher',
                         'probe') or not isinstance(self.plan, DistillationPlan) or self.plan.trains_teacher:
            return False
        # whose targets are kept may have lost snapshots, but not have become another
        return self.plan.teacher_is_gone() and (self.plan.has_stopped()
                                                or not self.plan.can_open_trajectories())

    # --- 1
    def _teacher_settings(self, run: int) -> dict:
        if self.plan.trains_teacher:
            return self.plan.teacher_config(run).to_dict()
        return dict(snapshots=[[snapshot.epoch, snapshot.sha256, snapshot.size]
                               for trajectory in self.plan.open_trajectories() for snapshot in trajectory])

    def _teacher(self, run: int) -> dict[str, Any]:
        if not self.plan.trains_teacher:
            found = self.plan.open_trajectories()
            return dict(trajectories=[str(trajectory.folder) for trajectory in found], epochs=found[0].epochs,
                        trained=False)
        config, folder, epochs = self.plan.teacher_config(
            run), self.plan.trajectory_folders[run], self.plan.snapshot_epochs_of(run)
        runner = self._run(config)
        missing = sorted(set(epochs) - set(Trajectory.open(folder).epochs))
        if missing:
            raise CkdError(f'the teacher is trained, but snapshots of epochs {missing} are missing in '
                           f'{folder / MANIFEST}; '
                           f'remove {config.work_dir}/last_checkpoint to train it again')
        return dict(trajectories=[str(folder)], epochs=epochs, trained=True, stage_seconds=runner.seconds)

    # --- 2
    def _plane_path(self, index: int) -> Path:
        return self.work_dir / (PLANE if index == 0 else PLANE.replace('.json', f'_{index + 1}.json'))

    def _probe(self) -> dict[str, Any]:
        best = []
        for index, trajectory in enumerate(self.plan.open_trajectories()):
            plane = probe_trajectory(trajectory, self.plan.probe, self._plane_path(index), self.log)
            best.append(plane.best_epoch)
        return dict(best_epochs=best, seconds_a_snapshot=_mean([point.seconds for point in plane.points]))

    # --- 3
    def _select_settings(self) -> dict:
        found = dict(selector=self.cfg.get('selector', 'last'))
        if self.plan.selector.needs_images:
            found['images'] = self.plan.probe.settings
        if self.plan.selector.needs_student:
            found['student'] = StudentTask(self.plan, self.work_dir).settings
        return found

    def _select(self) -> dict[str, Any]:
        trajectories = self.plan.open_trajectories()
        chosen: list[Snapshot] = []
        teachers, parts = [], []
        contexts = [self._selection_context(index) for index in range(len(trajectories))]
        for trajectory, selection in zip(trajectories, self.plan.selector.select_all(trajectories, contexts)):
            self.log(f'Selected epoch(s) {[snapshot.epoch for snapshot in selection.snapshots]} of '
                     f'{trajectory.folder}: {selection.reason}')
            chosen += selection.snapshots
            teachers += [as_teacher(trajectory, snapshot) for snapshot in selection.snapshots]
            parts.append(
                dict(trajectory=str(trajectory.folder),
                     epochs=[snapshot.epoch for snapshot in selection.snapshots], reason=selection.reason,
                     candidates=trajectory.epochs, scores=selection.scores, score_unit=selection.score_unit,
                     cost=selection.cost, training=training_cost(selection.snapshots)))
        self.plan.check_chosen(len(chosen))
        for snapshot in chosen:
            check_recorded_accuracy(snapshot, self.plan.plain())
        config = self.plan.plain()
        last = trajectories[0].last
        teacher = evaluate(SnapshotEnsemble([last]), config, self.log, 'the teacher')
        same = len(chosen) == 1 and chosen[0].file == last.file
        if self.plan.schedule.progressive:
            cohort: dict[str, float] = {}  # they never teach together
        else:
            cohort = teacher if same else evaluate(SnapshotEnsemble(chosen), config, self.log, 'the cohort')
        self.log(f'Teacher after epoch {last.epoch}: {_percent(top1(teacher))} top-1; who teaches: '
                 f'{_percent(top1(cohort))}')
        result = dict(epochs=[snapshot.epoch for snapshot in chosen], teachers=teachers,
                      selector=self.cfg.get('selector', 'last'), by_trajectory=parts, cohort_metrics=cohort,
                      teacher_metrics=teacher, teacher_epoch=last.epoch, members=[
                          dict(epoch=snapshot.epoch, file=str(snapshot.file), sha256=snapshot.sha256,
                               metrics=snapshot.metrics) for snapshot in chosen
                      ])
        if is_main_process():
            write_json(self.work_dir / SELECTION, result)
        return result

    def _selection_context(self, index: int) -> SelectionContext:
        folder = self.work_dir / 'select' if index == 0 else self.work_dir / 'select' / f'trajectory_{index + 1}'
        context = selection_context(self.plan, folder, self.log)
        if self.plan.measures_plane:
            context.plane = InformationPlane.load(self._plane_path(index))
        return context

    def _chosen(self) -> list[dict]:
        """The snapshots that were selected, in the folders where the config has their trajectories now: they
        may have been moved."""
        result = self.stages.result('select')
        folders = dict(
            zip((part['trajectory'] for part in result['by_trajectory']),
                map(str, self.plan.trajectory_folders)))
        return [
            dict(teacher, trajectory=folders.get(teacher['trajectory'], teacher['trajectory']))
            for teacher in result['teachers']
        ]

    # --- 3b
    def _heads_config(self) -> Config:
        images = DATASETS.build(self.plan.head_training().train_dataloader.dataset)
        return self.plan.heads_config(self._chosen()[0], image_shape(images))

    def _heads_settings(self, config: Callable[[], Config]) -> dict:
        return dict(self.plan.heads) if 'file' in self.plan.heads else config().to_dict()

    @property
    def _heads_file(self) -> Path | None:
        if self.plan.heads is None:
            return None
        return Path(self.plan.heads.get('file') or self.work_dir / HEADS)

    def _heads(self, config: Callable[[], Config]) -> dict[str, Any]:
        """Train them, and say how good each is and how good they are together (DIH, Sec. 4.4)."""
        seconds, epochs = None, 0
        if 'file' not in self.plan.heads:
            runner = self._run(config())
            seconds, epochs = runner.seconds, runner.epoch
            if is_main_process():
                trained_model(runner).write(self._heads_file, dict(versions=versions()))
            barrier()
        cohort = MODELS.build(self.plan.cohort(self._chosen(), self._heads_file))
        found = evaluate_members(cohort, self.plan.plain(), self.log)
        for name, metrics in found['members'].items():
            self.log(f'{name}: {_percent(top1(metrics))} top-1')
        self.log(f'Together: {_percent(top1(found["ensemble"]))} top-1')
        result = dict(found, file=str(self._heads_file), epochs=epochs,
                      sha256=sha256_of_file(self._heads_file))
        return result if seconds is None else dict(result, stage_seconds=seconds)

    # --- 4
    def _teachers_of(self, link: Link) -> dict:
        before = chain_of(self.plan.links)[link.stage]
        if before is None:
            return self.plan.cohort(self._chosen(), self._heads_file)
        return dict(type='ckd_mm.SnapshotEnsemble', snapshots=[self._left_by(before)])

    def _link_config(self, link: Link) -> Config:
        return self.plan.link_config(link, self._teachers_of(link), link is self.plan.links[0])

    def _link_settings(self, link: Link) -> dict:
        """Where targets are that were given is of no concern: the stage before says which they are."""
        settings = self._link_config(link).to_dict()
        if self.plan.cache is not None:
            settings['model']['targets'] = self.plan.targets_stage(link)
        return settings

    def _asked(self, link: Link) -> tuple[Config, dict[str, Any]]:
        """How the teachers of a link are asked, and the fingerprint of what they say."""
        config = self.plan.targets_config(link, self._teachers_of(link), link is self.plan.links[0])
        return config, targets_fingerprint(config, on_main(lambda: self._known_by(link)))

    def _targets_settings(self, config: Config, wanted: dict[str, Any]) -> dict[str, Any]:
        kept = self.plan.cache
        return dict(fingerprint=wanted, dtype=kept.dtype, top_k=kept.top_k,
                    batch_size=config.train_dataloader.batch_size)

    def _known_by(self, link: Link) -> list[dict[str, Any]]:
        """How the teachers of a link would be known again: the SHA-256 of their files."""
        before = chain_of(self.plan.links)[link.stage]
        if before is not None:
            return [dict(sha256=self.stages.result(before)['sha256'])]
        selected, asked = self.stages.result('select'), self.stages.stages.get(
            self.plan.targets_stage(link), {}).get('settings', {})
        # of a teacher without a manifest that has been removed: what was written down when it was asked
        found = [
            dict(sha256=member['sha256'] or (sha256_of_file(member['file']) if Path(member['file']).is_file()
                                             else asked.get(f'fingerprint.teachers.{index}.sha256')),
                 model=teacher.get('model'))
            for index, (teacher, member) in enumerate(zip(selected['teachers'], selected['members']))
        ]
        if self.plan.heads is not None:
            found.append(dict(heads=self.stages.result('heads')['sha256'], use=self.plan.heads.get('use')))
        return found

    def _targets(self, link: Link, config: Config, wanted: dict[str, Any]) -> dict[str, Any]:
        folder = self.plan.targets_folder(link)
        self._just_read.add(folder)
        if self.plan.cache.file is not None:
            return on_main(
                lambda: take_over(folder, wanted, config.train_dataloader.batch_size, self.logger.warning))
        self._check_asked(link)
        return make_targets(config, folder, self.plan.cache, wanted, self.log)

    def _hint(self) -> dict[str, Any]:
        self._check_asked(self.plan.links[0])
        config = self.plan.hint_config(self._teachers_of(self.plan.links[0]))
        runner = self._run(config)
        if is_main_process():
            self._write(self.work_dir / HINT, runner, trained_model(runner), self.plan.plain())
        return dict(epochs=runner.epoch, work_dir=runner.work_dir, stage_seconds=runner.seconds)

    def _link(self, link: Link) -> dict[str, Any]:
        config = self._link_config(link)
        if self.plan.cache is not None:
            folder = self.plan.targets_folder(link)
            if folder not in self._just_read:
                on_main(lambda: None if self.plan.has_stopped() else self._check_targets(link))
        else:
            self._check_asked(link)
        # `--resume PATH` is the student's
        resume_from = self.cfg.get('load_from') if self.cfg.get('resume') and link.stage == STUDENT else None
        if self.plan.teacher_is_gone() and not is_there(self._teachers_of(link)):
            self.logger.warning(f'The teachers of the {link.what} are no longer there: it goes on without '
                                'them, and without a KD error')
        runner = self._run(config, resume_from)
        getattr(runner.model, 'module', runner.model).verify_targets()
        return self._trained(runner, self.plan.compared(link, self._teachers_of(link)),
                             self.work_dir / f'{link.stage}.pth')

    def _check_asked(self, link: Link) -> None:
        """Hours may lie between the selection of a link's teachers and now, and a resumed student may have
        stopped distilling."""
        before = chain_of(self.plan.links)[link.stage]
        if before is not None:
            on_main(partial(self._check_link, before))
        elif not self.plan.teacher_is_gone():
            on_main(partial(self._check_teachers, class_names(self.plan.config.train_dataloader.dataset)))

    def _check_teachers(self, classes: Sequence[str] | None) -> None:
        if self.plan.heads is not None and sha256_of_file(
                self._heads_file) != self.stages.result('heads')['sha256']:
            raise SnapshotError(f'heads {self._heads_file} are not those that this run evaluated: their '
                                'SHA-256 is another. Restore them, '
                                'or choose another --work-dir')
        selected = self.stages.result('select')
        for teacher, member in zip(self._chosen(), selected['members']):
            snapshot = find_snapshot(teacher, self.plan.teacher.get('model'))
            snapshot.check_file()
            if snapshot.sha256 != member['sha256']:
                raise SnapshotError(f'snapshot {snapshot} is not the one that was selected: its manifest '
                                    'says another SHA-256. Restore '
                                    'the trajectory, or choose another --work-dir')
            require_same_classes(snapshot, classes, 'the classes of its training set')

    def _check_targets(self, link: Link) -> None:
        """Given ones may have been moved since, but not have become others."""
        file = TargetFile(self.plan.targets_folder(link))
        if file.record()['sha256'] != self.stages.result(self.plan.targets_stage(link))['sha256']:
            raise CkdError(f'the targets in {file.folder} are not those that this run began with: their '
                           'SHA-256 is another. Restore them, '
                           'or choose another --work-dir')
        file.check()

    def _check_link(self, before: str) -> None:
        result = self.stages.result(before)
        file = self.work_dir / result['checkpoint']
        if not file.is_file() and self.plan.teacher_is_gone():
            return
        replace(find_snapshot(str(file)), sha256=result['sha256']).check_file()

    # --- 4b
    def _student_alone(self, run: int) -> dict[str, Any]:
        # also of a single one: others may be asked for later, and an ensemble of all
        file = self.work_dir / f'{self.plan.alone_stage(run)}.pth'
        return self._trained(self._run(self.plan.student_alone_config(run)), self.plan.plain(), file)

    def _student_of_its_own(self) -> dict[str, Any]:
        resume_from = self.cfg.get('load_from') if self.cfg.get('resume') else None
        return self._trained(self._run(self.plan.student_config(), resume_from), self.plan.plain(),
                             self.work_dir / 'student.pth')

    def _students_together(self) -> dict[str, Any]:
        """Deep mutual learning: both are evaluated, and each is written down alone."""
        runner = self._run(self.plan.student_config(),
                           self.cfg.get('load_from') if self.cfg.get('resume') else None)
        seconds, config = runner.seconds, self.plan.plain()
        student, peer = trained_model(runner).students
        result = self._network_result(runner, student, config, self.work_dir / 'student.pth')
        config.model = self.plan.config.peer.model
        result['peer'] = self._network_result(runner, peer, config, self.work_dir / 'peer.pth')
        return dict(result, work_dir=runner.work_dir, stage_seconds=seconds)

    # --- 5
    def _ensembles(self) -> dict[str, list[dict]]:
        """Networks that are evaluated together: all generations, with and without the first teacher (ESKD,
        Table 4), and all
        students alone."""
        found: dict[str, list[dict]] = {}
        if isinstance(self.plan, DistillationPlan) and len(self.plan.generations) > 1:
            generations = [self._left_by(stage) for stage in self.plan.generations]
            found['generations'] = generations
            if len(self.plan.links) == len(generations) and on_main(self._teachers_are_there):
                found['generations and teacher'] = self._chosen() + generations
        if self.plan.students_alone > 1:
            found['students alone'] = [
                self._left_by(self.plan.alone_stage(run)) for run in range(self.plan.students_alone)
            ]
        return found

    def _left_by(self, stage: str) -> dict[str, str]:
        """The network of a finished stage, as a snapshot."""
        file = self.stages.result(stage).get('checkpoint')
        if file is None:
            raise ConfigError(f'stage {stage} was finished by an earlier version, which left no '
                              f'{stage}.pth: there is nothing to make an '
                              'ensemble of. Choose another --work-dir')
        return dict(file=str(self.work_dir / file))

    def _teachers_are_there(self) -> bool:
        """Students that have stopped distilling need them no more, so they may have been removed."""
        if self.stages.is_done('ensembles'):
            return 'generations and teacher' in self.stages.result('ensembles')
        try:
            for teacher in self._chosen():
                find_snapshot(teacher, self.plan.teacher.get('model')).check_file()
        except CkdError as error:
            if not self.plan.teacher_is_gone():
                raise
            self.log(f'The ensemble of all generations and their first teacher is left out: {error}')
            return False
        return True

    def _evaluate_ensembles(self, members: dict[str, list[dict]]) -> dict[str, Any]:
        return {
            name:
            dict(size=len(snapshots),
                 metrics=evaluate(SnapshotEnsemble(snapshots), self.plan.plain(), self.log, name))
            for name, snapshots in members.items()
        }

    def _report(self) -> dict[str, Any]:
        summary = plain(summarize(self.plan, self.stages))
        if is_main_process():
            write_json(self.work_dir / SUMMARY, summary)
            page = write_report(self.work_dir)
            self.log('\n' + results_table(summary))
            self.log(f'Report: {page}')
        barrier()
        return summary


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 3) if values else None


def _percent(value: float | None) -> str:
    return 'not measured' if value is None else f'{value:.2f} %'
