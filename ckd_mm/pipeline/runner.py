"""Whole methods as one runner: stages in turn, each done once and written down."""

import time
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import barrier, init_dist, is_distributed, is_main_process
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from ..compat import prepare_distributed, versions
from ..counting import EPOCH
from ..errors import CkdError, ConfigError, reading
from ..files import naming_disk_errors, plain, require_writable, write_json
from ..registry import RUNNERS, use_scope
from ..report import Report, Section, results_table, write_page
from ..settings import RunnerSettings
from ..signals import Stopped, StopRequest, listening
from ..trajectory.safe_loading import loads_safely
from .build import RunSettings, build_pipeline, stage_of
from .cost import cost_section
from .owner import owning
from .preflight import Preflight, environment
from .run import Run
from .stage import STUDENT, Stage, needed_by
from .stage_runner import UTF8_LOG, close_log, mind_full_disk
from .store import DONE, Store, read_records, result_of

SUMMARY = 'summary.json'


@RUNNERS.register_module()
class CheckpointDistillRunner:
    """Runs the stages of a checkpoint-distillation config (see ``docs/config.md``).

    Set ``runner_type = 'ckd_mm.CheckpointDistillRunner'`` in a config and mmpretrain's own ``tools/train.py``
    and ``tools/test.py`` use it too. Each stage that trains is an ordinary mmengine run in a folder of its
    own below ``work_dir``; a finished stage is written into ``stages.json`` and not repeated by a run with
    ``resume='auto'``, and an unfinished one goes on from its last checkpoint.

    A subclass with stages of its own names its settings in ``settings_type`` and adds the stages in
    :meth:`build` (``docs/extending.md``).

    Args:
        config: whole, with ``work_dir``.
    """
    settings_type: type[RunSettings] = RunSettings

    def __init__(self, config: Config) -> None:
        if not config.get('work_dir'):
            raise ConfigError('work_dir is missing: pass --work-dir, or set it in the config')
        RunnerSettings.of(config)
        self.cfg = config
        self.work_dir = Path(config.work_dir)
        require_writable('work_dir', self.work_dir, 'choose another --work-dir')

    @classmethod
    def from_cfg(cls, cfg: Config) -> 'CheckpointDistillRunner':
        return cls(cfg if isinstance(cfg, Config) else Config(cfg))

    def build(self, run: Run) -> list[Stage]:
        """The stages of a run, in their order."""
        return build_pipeline(run)

    @loads_safely
    def prepare(self, preflight: Preflight, **log: Any) -> tuple[Run, list[Stage]]:
        """Read the config and check all that can be known before anything is trained.

        Raises:
            CkdError: the first problem, with the name of the setting and what to do.
        """
        opened: list[Any] = []
        started = time.perf_counter()

        def read() -> str:
            run, records = Run(self.cfg, self.settings_type.of(self.cfg), **log), read_records(self.work_dir)
            stages = self.build(run)
            run.done = {name for name, record in records.items() if record['state'] == DONE}
            run.results = {stage.name: result_of(stage, records, self.work_dir)
                           for stage in stages if stage.name in run.done}
            run.over = run.done - needed_by(stages, run.done)
            opened.extend((run, stages))
            return ', '.join(stage.name for stage in stages)

        preflight.check('environment', environment)
        preflight.check('settings', read)
        if opened:
            preflight.check_stages(*opened)
        preflight.end()
        preflight.log(f'Checked in {time.perf_counter() - started:.0f} s')
        return tuple(opened)

    @loads_safely
    def train(self, until: str | None = None) -> dict[str, Any] | None:
        """Run what is left to do.

        Args:
            until: name of the stage to stop after; None runs them all.

        Returns:
            The content of ``summary.json``; None where it stops before.

        Raises:
            CkdError: before any training where possible, naming the setting or file.
            Stopped: after SIGTERM or SIGUSR1; the process ends with status 75.
        """
        with naming_disk_errors(self.work_dir), listening() as stop:
            with reading('the run cannot start'):
                self._join()
            with owning(self.work_dir) as problem:
                with reading('the run cannot start'):
                    logger = self.logger = self._log()
                if problem is not None:
                    logger.warning(problem)
                try:
                    return self._train(logger, until, stop)
                except Stopped as stopped:
                    logger.warning(f'{stopped} (exit status {stopped.code})')
                    raise
                finally:
                    close_log(logger)

    def _join(self) -> None:
        prepare_distributed(self.cfg)
        if self.cfg.get('launcher', 'none') != 'none' and not is_distributed():
            init_dist(self.cfg.launcher, **(self.cfg.get('env_cfg') or {}).get('dist_cfg', {}))
        use_scope(self.cfg)

    def _log(self) -> MMLogger:
        return mind_full_disk(MMLogger.get_instance(
            f'ckd_mm_{time.time_ns()}', logger_name='ckd_mm', file_handler_cfg=dict(UTF8_LOG),
            log_file=str(self.work_dir / 'ckd_mm.log'), log_level=self.cfg.get('log_level', 'INFO')))

    def _train(self, logger: MMLogger, until: str | None, stop: StopRequest) -> dict[str, Any] | None:
        try:
            run, stages = self.prepare(Preflight(logger.info), log=logger.info, warn=logger.warning)
        except CkdError:
            logger.debug('', exc_info=True)  # log_level='DEBUG' shows where it comes from
            raise
        if until is not None:
            stage_of(stages, until)
        run.stop, store = stop, Store(self.work_dir, stages)
        for stage in stages:
            run.results[stage.name] = store.run(stage, run)
            if stage.name == until:
                return None
        return self._report(run, stages, store.processes(STUDENT))

    def _report(self, run: Run, stages: list[Stage], processes: int) -> dict[str, Any]:
        sections = {stage.name: stage.report(run, run.results[stage.name]) for stage in stages}
        sections['cost'] = cost_section(sections, unit := run.length.unit)
        images = self.cfg.train_dataloader.get('batch_size', 1) * processes
        counting = {} if unit == EPOCH else dict(unit=unit)
        sections['run'] = Section(summary=dict(processes=processes, images_a_step=images, **counting))
        report = Report(run.name, lead_of(run), sections, run.seconds, versions(), self.cfg.pretty_text,
                        **counting)
        summary = plain(report.summary())
        if is_main_process():
            report.save(self.work_dir)
            write_json(self.work_dir / SUMMARY, summary)
            page = write_page(self.work_dir)
            run.log(f'\n{results_table(report)}')
            run.log(f'Report: {page}')
        barrier()
        return summary

    @cached_property
    def student_runner(self) -> Runner:
        """The student's own mmengine runner, for evaluation as of any model."""
        prepare_distributed(self.cfg)
        config = Run(self.cfg, self.settings_type.of(self.cfg)).student_training()
        for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
            config[key] = None
        return Runner.from_cfg(config)

    @property
    def test_evaluator(self):
        return self.student_runner.test_evaluator

    @loads_safely
    def test(self) -> dict[str, float]:
        return self.student_runner.test()


def lead_of(run: Run) -> str:
    """The line below the title of the page."""
    if run.settings.teacher is not None:
        return ("Checkpoint distillation: a teacher's trajectory, who of it teaches, and what the student "
                'learnt.')
    if run.settings.peer is not None:
        return 'Deep mutual learning: two networks that learn from each other.'
    return 'A student that learns without a teacher, for comparison.'
