"""The whole method as one runner: teacher, probe, select, student, report."""

import gc
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import torch
from mmengine.config import Config
from mmengine.dist import barrier, broadcast_object_list, get_world_size, init_dist, is_distributed, is_main_process
from mmengine.logging import MMLogger
from mmengine.runner import Runner, find_latest_checkpoint

from ..compat import prepare_distributed, versions
from ..errors import CkdError, ConfigError, SnapshotError
from ..evaluation import check_promised_accuracy, evaluate, top1
from ..evaluation.evaluate import require_same_classes
from ..fileio import plain, write_json
from ..infoplane import PLANE, InformationPlane
from ..infoplane.probe import probe_trajectory
from ..models import SnapshotEnsemble
from ..models.cohorts.snapshot_ensemble import find_snapshot
from ..registry import RUNNERS, use_scope
from ..selection import SelectionContext
from ..trajectory import MANIFEST, Snapshot, Trajectory, model_config_of, write_snapshot
from ..visualization import results_table, write_report
from .cost import run_cost, training_cost
from .model_files import resolve_model_files
from .preflight import class_names, preflight
from .settings import DistillationPlan, as_teacher
from .stage_log import StageLog
from .stage_runner import StageRunner
from .student_task import StudentTask, selection_context

SELECTION, SUMMARY, REPORT, STUDENT = 'selection.json', 'summary.json', 'report.html', 'student.pth'


@RUNNERS.register_module()
class CheckpointDistillRunner:
    """Runs the stages of a checkpoint-distillation config (see :mod:`ckd_mm.runner.settings`).

    Set ``runner_type = 'ckd_mm.CheckpointDistillRunner'`` in a config and mmpretrain's own ``tools/train.py`` and
    ``tools/test.py`` use it too. Each stage is an ordinary mmengine run in a folder of its own below ``work_dir``; a
    finished stage is written into ``stages.json`` and not repeated by a run with ``resume=True``, and an unfinished one
    goes on from its last checkpoint.
    """

    def __init__(self, config: Config) -> None:
        resolve_model_files(config)
        self.cfg = config
        if not config.get('work_dir'):
            raise ConfigError('work_dir is missing: pass --work-dir, or set it in the config')
        self.work_dir = Path(config.work_dir)
        self._plain_runner: Optional[Runner] = None

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'CheckpointDistillRunner':
        return cls(cfg if isinstance(cfg, Config) else Config(cfg))

    # ------------------------------------------------------------ evaluation of the student, as of any model
    @property
    def plain_runner(self) -> Runner:
        """The student's own mmengine runner, for evaluation."""
        if self._plain_runner is None:
            prepare_distributed(self.cfg)
            config = DistillationPlan(self.cfg).plain()
            for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
                config[key] = None
            self._plain_runner = Runner.from_cfg(config)
        return self._plain_runner

    @property
    def test_evaluator(self):
        return self.plain_runner.test_evaluator

    def test(self) -> Dict[str, float]:
        return self.plain_runner.test()

    def val(self) -> Dict[str, float]:
        return self.plain_runner.val()

    # ------------------------------------------------------------ the stages
    def train(self, until: Optional[str] = None) -> Optional[Dict[str, Any]]:
        """Run what is left to do.

        Args:
            until: the stage to stop after: 'teacher', 'probe' or 'select'. None runs them all.

        Returns:
            The content of ``summary.json``; None where it stops before.

        Raises:
            CkdError: before any training where possible, naming the setting or file.
        """
        if until not in (None, 'teacher', 'probe', 'select'):
            raise ConfigError(f"until={until!r} is not a stage to stop after: 'teacher', 'probe' or 'select'")
        self._start()
        plan = self.plan
        for run in range(max(plan.runs, 1)):
            self._stage(plan.teacher_stage(run), partial(self._teacher_settings, run), partial(self._teacher, run))
        if until == 'teacher':
            return None
        if plan.measures_plane:
            self._stage('probe', lambda: plan.probe.settings, self._probe)
        if until == 'probe':
            return None
        self._stage('select', self._select_settings, self._select)
        if until == 'select':
            return None
        self._stage('student', lambda: self._student_config().to_dict(), self._student)
        if self.cfg.get('student_alone'):
            self._stage('student_alone', lambda: plan.student_alone_config().to_dict(), self._student_alone)
        return self._report()

    def _start(self) -> None:
        prepare_distributed(self.cfg)
        if self.cfg.get('launcher', 'none') != 'none' and not is_distributed():
            init_dist(self.cfg.launcher, **(self.cfg.get('env_cfg') or {}).get('dist_cfg', {}))
        if is_main_process():
            self.work_dir.mkdir(parents=True, exist_ok=True)
        barrier()
        use_scope(self.cfg)
        self.logger = MMLogger.get_instance(f'ckd_mm_{time.time_ns()}', logger_name='ckd_mm', file_mode='a',
                                            log_file=str(self.work_dir / 'ckd_mm.log'), log_level=self.cfg.get('log_level', 'INFO'))
        self.log: Callable[[str], None] = self.logger.info
        self._on_main(lambda: _nothing(preflight(self.cfg, self.log)))
        self.plan = DistillationPlan(self.cfg)
        self.stages: StageLog = self._on_main(lambda: StageLog(self.work_dir))
        self.stages.write = is_main_process()
        if self.cfg.get('resume') and self.cfg.get('load_from') and not self.stages.is_done('select'):
            raise ConfigError(f'--resume {self.cfg.load_from} names a checkpoint of the student, but the stages before it are not '
                              f'finished in {self.work_dir}; pass --resume alone')

    def _on_main(self, work: Callable[[], Any]) -> Any:
        """Look at the disk on rank 0 alone, and give every rank the result, or the problem."""
        outcome: List[Any] = [None, None]
        if is_main_process():
            try:
                outcome[0] = work()
            except CkdError as error:
                outcome[1] = error
        broadcast_object_list(outcome)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def _stage(self, name: str, settings: Callable[[], Dict], work: Callable[[], Dict[str, Any]]) -> None:
        if self.stages.is_done(name):
            if not (name in ('teacher', 'probe') and not self.plan.trains_teacher and self.plan.teacher_is_gone()):
                self.stages.require_unchanged(name, settings())
            self.log(f'Stage {name}: finished before, in {self.stages.seconds[name]:.0f} s')
            return
        wanted, processes = settings(), get_world_size()
        if find_latest_checkpoint(str(self.work_dir / name)) is not None and name in self.stages.stages:
            self.stages.require_unchanged(name, wanted)
            if self.stages.processes(name) != processes:
                self.logger.warning(f'Stage {name} was started on {self.stages.processes(name)} processes and goes on on {processes}: the '
                                    'images a step change with it')
        self.stages.start(name, wanted, processes)
        self.log(f'Stage {name}: starting')
        started = time.perf_counter()
        result = work()
        seconds = result.pop('stage_seconds', time.perf_counter() - started)
        barrier()
        self.stages.finish(name, seconds, result)
        self.log(f'Stage {name}: finished in {seconds:.0f} s')
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _run(self, config: Config, resume_from: Optional[str] = None) -> StageRunner:
        """Train a stage; a resumed run goes on from its last checkpoint, if it came that far.

        Args:
            resume_from: a checkpoint to go on from instead of the last.
        """
        if self.cfg.get('resume'):
            config.resume = resume_from is not None or find_latest_checkpoint(config.work_dir) is not None
            if config.resume:
                config.load_from = resume_from  # None: mmengine takes the latest
            elif config.get('load_from') is None and not Path(config.work_dir).name.startswith('teacher'):
                config.load_from = self.plan.initial_weights  # of a stage that never came to a checkpoint
        runner = StageRunner.from_cfg(config)
        runner.train()
        barrier()  # rank 0 may still be writing
        return runner

    # --- 1
    def _teacher_settings(self, run: int) -> Dict:
        if self.plan.trains_teacher:
            return self.plan.teacher_config(run).to_dict()
        return dict(snapshots=[[snapshot.epoch, snapshot.sha256, snapshot.size] for trajectory in self.plan.open_trajectories()
                               for snapshot in trajectory])

    def _teacher(self, run: int) -> Dict[str, Any]:
        if not self.plan.trains_teacher:
            found = self.plan.open_trajectories()
            return dict(trajectories=[str(trajectory.folder) for trajectory in found], epochs=found[0].epochs, trained=False)
        config, folder, epochs = self.plan.teacher_config(run), self.plan.trajectory_folders[run], self.plan.snapshot_epochs_of(run)
        runner = self._run(config)
        missing = sorted(set(epochs) - set(Trajectory.open(folder).epochs))
        if missing:
            raise CkdError(f'the teacher is trained, but snapshots of epochs {missing} are missing in {folder / MANIFEST}; '
                           f'remove {config.work_dir}/last_checkpoint to train it again')
        return dict(trajectories=[str(folder)], epochs=epochs, trained=True, stage_seconds=runner.seconds)

    # --- 2
    def _plane_path(self, index: int) -> Path:
        return self.work_dir / (PLANE if index == 0 else PLANE.replace('.json', f'_{index + 1}.json'))

    def _probe(self) -> Dict[str, Any]:
        best = []
        for index, trajectory in enumerate(self.plan.open_trajectories()):
            plane = probe_trajectory(trajectory, self.plan.probe, self._plane_path(index), self.log)
            best.append(plane.best_epoch)
        return dict(best_epochs=best, seconds_a_snapshot=_mean([point.seconds for point in plane.points]))

    # --- 3
    def _select_settings(self) -> Dict:
        found = dict(selector=self.cfg.get('selector', 'last'))
        if self.plan.selector.needs_images:
            found['images'] = self.plan.probe.settings
        if self.plan.selector.needs_student:
            found['student'] = StudentTask(self.plan, self.work_dir).settings
        return found

    def _select(self) -> Dict[str, Any]:
        trajectories = self.plan.open_trajectories()
        chosen: List[Snapshot] = []
        teachers, parts = [], []
        contexts = [self._selection_context(index) for index in range(len(trajectories))]
        for trajectory, selection in zip(trajectories, self.plan.selector.select_all(trajectories, contexts)):
            self.log(f'Selected epoch(s) {[snapshot.epoch for snapshot in selection.snapshots]} of {trajectory.folder}: {selection.reason}')
            chosen += selection.snapshots
            teachers += [as_teacher(trajectory, snapshot) for snapshot in selection.snapshots]
            parts.append(dict(trajectory=str(trajectory.folder), epochs=[snapshot.epoch for snapshot in selection.snapshots],
                              reason=selection.reason, candidates=trajectory.epochs, scores=selection.scores,
                              score_unit=selection.score_unit, cost=selection.cost, training=training_cost(selection.snapshots)))
        for snapshot in chosen:
            check_promised_accuracy(snapshot, self.plan.plain())
        config = self.plan.plain()
        last = trajectories[0].last
        teacher = evaluate(SnapshotEnsemble([last]), config, self.log, 'the teacher')
        same = len(chosen) == 1 and chosen[0].file == last.file
        if self.plan.schedule.progressive:
            cohort: Dict[str, float] = {}  # they never teach together
        else:
            cohort = teacher if same else evaluate(SnapshotEnsemble(chosen), config, self.log, 'the cohort')
        self.log(f'Teacher after epoch {last.epoch}: {_percent(top1(teacher))} top-1; who teaches: {_percent(top1(cohort))}')
        result = dict(epochs=[snapshot.epoch for snapshot in chosen], teachers=teachers,
                      selector=self.cfg.get('selector', 'last'), by_trajectory=parts, cohort_metrics=cohort, teacher_metrics=teacher,
                      teacher_epoch=last.epoch,
                      members=[dict(epoch=snapshot.epoch, file=str(snapshot.file), sha256=snapshot.sha256, metrics=snapshot.metrics)
                               for snapshot in chosen])
        if is_main_process():
            write_json(self.work_dir / SELECTION, result)
        return result

    def _selection_context(self, index: int) -> SelectionContext:
        folder = self.work_dir / 'select' if index == 0 else self.work_dir / 'select' / f'trajectory_{index + 1}'
        context = selection_context(self.plan, folder, self.log)
        if self.plan.measures_plane:
            context.plane = InformationPlane.load(self._plane_path(index))
        return context

    # --- 4
    def _student_config(self) -> Config:
        return self.plan.student_config(self.stages.result('select')['teachers'])

    def _student(self) -> Dict[str, Any]:
        config = self._student_config()
        self._on_main(self._check_teachers)
        resume_from = self.cfg.get('load_from') if self.cfg.get('resume') else None
        return self._trained(self._run(config, resume_from), self.work_dir / STUDENT)

    def _check_teachers(self) -> None:
        """Hours may lie between their selection and now, and a resumed student may have stopped distilling."""
        if self.plan.teacher_is_gone():
            return
        classes, selected = class_names(self.plan), self.stages.result('select')
        for teacher, member in zip(selected['teachers'], selected['members']):
            snapshot = find_snapshot(teacher, self.plan.teacher.get('model'))
            snapshot.check_file()
            if snapshot.sha256 != member['sha256']:
                raise SnapshotError(f'snapshot {snapshot} is not the one that was selected: its manifest says another SHA-256. Restore '
                                    'the trajectory, or choose another --work-dir')
            require_same_classes(snapshot, classes, 'the classes of its training set')

    # --- 4b
    def _student_alone(self) -> Dict[str, Any]:
        config = self.plan.student_alone_config()
        if self.cfg.get('resume'):
            config.load_from = None  # `--resume PATH` is the student's
        return self._trained(self._run(config), None)

    def _trained(self, runner: StageRunner, publish: Optional[Path]) -> Dict[str, Any]:
        """Evaluate the weights after the last epoch, and write them down alone."""
        seconds = runner.seconds
        model = runner.model.module if hasattr(runner.model, 'module') else runner.model
        state = model.state_dict()
        ema = next((hook.ema_model.module for hook in runner.hooks if hasattr(hook, 'ema_model')), None)
        evaluated = model if ema is None else ema
        metrics = evaluate(evaluated, self.plan.plain(), self.log, 'the student')
        if publish is not None and is_main_process():
            config = self.plan.plain()
            write_snapshot(publish, state if ema is None else ema.state_dict(), epoch=runner.epoch, iteration=runner.iter, lr=None,
                           model=model_config_of(config), classes=runner.train_dataloader.dataset.metainfo.get('classes'),
                           extra=dict(cfg=config.pretty_text, metrics=metrics, versions=versions()))
        return dict(metrics=metrics, epochs=runner.epoch, work_dir=runner.work_dir, stage_seconds=seconds)

    # --- 5
    def _report(self) -> Dict[str, Any]:
        select = self.stages.result('select')
        student = self.stages.result('student')
        summary = dict(
            teacher=dict(accuracy_top1=top1(select['teacher_metrics']), epoch=select['teacher_epoch'], metrics=select['teacher_metrics']),
            cohort=dict(accuracy_top1=top1(select['cohort_metrics']), size=len(select['epochs']), metrics=select['cohort_metrics']),
            student=dict(accuracy_top1=top1(student['metrics']), epoch=student['epochs'], metrics=student['metrics'],
                         checkpoint=STUDENT))
        if self.stages.is_done('student_alone'):
            alone = self.stages.result('student_alone')
            summary['student_alone'] = dict(accuracy_top1=top1(alone['metrics']), epoch=alone['epochs'], metrics=alone['metrics'])
        # a selection of an earlier version knows no hours
        trainings = [part.get('training') or dict(epochs=max(part['epochs']), hours=None) for part in select['by_trajectory']]
        summary.update(
            schedule=self.plan.schedule.configs,
            selection=dict(epochs=select['epochs'], by_training=[part['epochs'] for part in select['by_trajectory']],
                           in_turn=self.plan.schedule.progressive, selector=select['selector'],
                           reason='; '.join(part['reason'] for part in select['by_trajectory'])),
            cost=run_cost(trainings, student['epochs'], self.stages.seconds['student']),
            seconds=self.stages.seconds, processes=self.stages.processes('student'),
            images_a_step=self.cfg.train_dataloader.get('batch_size', 1) * self.stages.processes('student'),
            config=dict(name=self.plan.name, text=self.cfg.pretty_text), versions=versions())
        if is_main_process():
            write_json(self.work_dir / SUMMARY, summary)
            page = write_report(self.work_dir)
            self.log('\n' + results_table(plain(summary)))
            self.log(f'Report: {page}')
        barrier()
        return plain(summary)


def _nothing(_: Any) -> None:
    """Plans hold modules and data sets, which need not travel between processes."""


def _mean(values: List[float]) -> Optional[float]:
    return round(sum(values) / len(values), 3) if values else None


def _percent(value: Optional[float]) -> str:
    return 'not measured' if value is None else f'{value:.2f} %'
