"""Train a student: from teachers (CheckpointKD, Eq. 1 and 2), from an assistant or the generation before, or
alone."""

import copy
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from torch import nn

from ..distributed import on_main
from ..errors import CkdError, ConfigError
from ..evaluation import top1
from ..files import sha256_of_file
from ..pipeline.network_checks import number_of_parameters
from ..pipeline.run import Run
from ..pipeline.stage import STUDENT, Check, TeachingStage
from ..pipeline.training_stage import NetworkResult, TrainingStage, evaluated, stage_config, train
from ..report.curves import read_curve
from ..report.section import Accuracy, Section
from ..training import apply_overrides, exclude_held_out, result_settings, shift_seed, unwrap, with_comparison
from ..trajectory import model_config_of, snapshot_epochs
from .distillation import Distillation
from .distiller_check import CohortOfOne, distiller_checks
from .hint import HINT, HintStage
from .networks import BASELINE, Network
from .targets import TargetsStage, require_unmixed_images, targets_folder, views_of
from .teacher import WhenSettings


class StudentStage(TrainingStage[NetworkResult], TeachingStage[NetworkResult]):
    """A student, a generation, an assistant, or a student without a teacher.

    Args:
        network: what it trains.
        teachers: the stage that teaches it; None: it is trained on its own loss.
        distillation: how.
        weighted: whether ``teacher_weights`` are of these teachers.
        hint: trained its first weights.
        snapshots: when to keep it while it learns.
    """
    Result = NetworkResult

    def __init__(self, network: Network, teachers: TeachingStage | None = None,
                 distillation: Distillation | None = None, weighted: bool = True,
                 hint: HintStage | None = None, snapshots: WhenSettings | None = None) -> None:
        self.network, self.teachers, self.distillation = network, teachers, distillation
        self.weighted, self.hint, self.snapshots = weighted, hint, snapshots
        self.name, self.key = network.name, network.key
        self.requires = tuple(stage.name for stage in (teachers, hint) if stage is not None)
        cache = None if distillation is None else distillation.settings.cache
        self.cache = cache if teachers is not None else None
        self.baseline_views = cache if teachers is None else None  # what is compared has seen the same images
        self.targets = None if self.cache is None else TargetsStage(self.cache, self)
        if self.targets is not None:
            self.requires += (self.targets.name, )

    # ------------------------------------------------------------ the training
    def training(self, run: Run) -> Config:
        config = run.student_training()
        if self.network.settings is not None:
            config.load_from = None  # of another network
            config = apply_overrides(shift_seed(config, self.network.seed_shift),
                                     dict(self.network.settings.overrides, model=self.network.settings.model))
        else:
            shift_seed(config, self.network.seed_shift)
        return exclude_held_out(config,
                                None if self.distillation is None else self.distillation.schedule.comparison)

    def config(self, run: Run) -> Config:
        config, hooks = self.training(run), []
        if self.teachers is not None:
            cohort = self.teachers.cohort(run)
            config = with_comparison(config, run.config, cohort)
            hooks = copy.deepcopy(self.distillation.schedule.configs)
            if self.hint is not None:
                config.load_from = str(run.work_dir / HINT)
            if self.cache is not None:
                self.cache.show_views(config)
            targets = None if self.cache is None else str(targets_folder(self.cache, self.name, run))
            config = self.distilled(config, cohort, targets, self.weighted)
        elif self.baseline_views is not None:
            self.baseline_views.show_views(config)
        return stage_config(run, config, self.name, hooks + self._snapshot_hooks(config))

    def distilled(self, config: Config, cohort: dict, targets: str | None, weighted: bool) -> Config:
        """``config`` with its network distilled; in place.

        Args:
            targets: folder of cached ones.
            weighted: whether ``teacher_weights`` are of this cohort.
        """
        own: dict[str, Any] = {} if targets is None else dict(targets=targets)
        distill = self.distillation.settings
        if targets is None and views_of(config) is not None and distill.distiller is None and \
                distill.is_cacheable:
            # so that cached targets are the same, bit for bit
            own['teacher_batch'] = config.train_dataloader.batch_size
        return self.distillation.model(config, cohort, weighted, **own)

    def short_config(self, run: Run, teachers: list[dict]) -> Config:
        """Distilled to the end from these snapshots all alike, on all images, as short trials do."""
        config = run.student_training()
        if self.cache is not None:
            self.cache.show_views(config)
        cohort = dict(type='ckd_mm.SnapshotEnsemble', snapshots=teachers, model=run.settings.teacher.model)
        return stage_config(run, self.distilled(config, cohort, None, weighted=False), self.name, [])

    def _snapshot_hooks(self, config: Config) -> list[dict]:
        if self.snapshots is None:
            return []
        info, images = {}, config.train_dataloader.dataset
        while images.get('part') is None and isinstance(images.get('dataset'), dict):
            images = images.dataset
        if images.get('part') == 'rest':
            info['held_out'] = dict(held_out=images.held_out, seed=images.seed)
        return [dict(type='ckd_mm.SnapshotHook', info=info, overwrite=True, **self.snapshots.given)]

    def depends_on(self, run: Run) -> dict[str, Any]:
        found = result_settings(self.config(run))
        if self.teachers is not None:
            found['model'].pop('cohort')
            if self.cache is not None:  # the targets stage has fingerprinted the content of given ones
                found['model']['targets'] = self.targets.name
            found['teachers'] = on_main(lambda: self.teachers.fingerprint(run))
        return found

    def execute(self, run: Run) -> NetworkResult:
        if self.targets is not None and self.targets.name in run.done:
            on_main(lambda: self.targets.verify(run))
        elif self.targets is None and self.teachers is not None:
            on_main(lambda: self.teachers.verify(run))
        # `--resume PATH` is the student's
        resume_from = run.config.get('load_from') if run.resumes and self.name == STUDENT else None
        return self.finish(run, train(run, self.config(run), resume_from))

    def finish(self, run: Run, runner: Any) -> NetworkResult:
        config = self.training(run)
        if self.teachers is not None:
            unwrap(runner.model).verify_targets()
            config = with_comparison(config, run.config, self.teachers.cohort(run))
        return evaluated(run, runner, config, run.work_dir / f'{self.name}.pth')

    # ------------------------------------------------------------ teaching
    def cohort(self, run: Run) -> dict[str, Any]:
        return dict(type='ckd_mm.SnapshotEnsemble', snapshots=[self.snapshot(run)])

    def snapshot(self, run: Run) -> dict[str, str]:
        """What it left, as a snapshot."""
        return dict(file=str(run.work_dir / run.results[self.name].checkpoint))

    def fingerprint(self, run: Run) -> list[dict[str, Any]]:
        return [dict(sha256=run.results[self.name].sha256)]

    def verify(self, run: Run) -> None:
        result = run.results[self.name]
        file = run.work_dir / result.checkpoint
        if not file.is_file():
            raise CkdError(f'{file}, which the {self.title} left, does not exist; restore it, or choose '
                           'another --work-dir')
        if sha256_of_file(file) != result.sha256:
            raise CkdError(f'{file}, which the {self.title} left, is damaged: its SHA-256 is another; '
                           'restore it, or choose another --work-dir')

    def example(self, run: Run) -> nn.Module:
        return CohortOfOne(run.network(self.title, model_config_of(self.training(run))))

    # ------------------------------------------------------------ before anything is trained
    def checks(self, run: Run) -> Iterator[Check]:
        if self.teachers is None and self.network.seed_shift:  # the same again with another seed
            return
        yield from super().checks(run)
        if self.snapshots is not None:
            yield Check('snapshots', lambda: self._check_snapshots(run))
        if self.teachers is None:
            return
        distill = self.distillation.settings
        yield Check('schedule', lambda: self.check_schedule(run))
        if distill.needs_labels:
            yield Check('labels', lambda: self._check_labels(run))
        if distill.distiller is not None:
            yield from distiller_checks('distill.distiller', distill.distiller, self.teachers, run,
                                        self.training(run))
        if self.network.settings is not None:
            yield Check('size', lambda: self._check_size(run))

    def _check_snapshots(self, run: Run) -> str:
        try:
            epochs = snapshot_epochs(self.training(run).train_cfg.max_epochs, **self.snapshots.given)
        except ConfigError as error:
            raise ConfigError(f'student_{error}') from error
        return f'{len(epochs)} of the {self.title}'

    def check_schedule(self, run: Run) -> str:
        config, schedule, cache = self.training(run), self.distillation.schedule, self.cache
        epochs = config.train_cfg.max_epochs
        try:
            distilled = schedule.check(None if self.weighted else 1, epochs)
        except ConfigError as error:
            raise error if self.name == STUDENT else ConfigError(
                f'{self.title}, {epochs} epochs: {error}') from error
        if cache is not None:
            require_unmixed_images(config)
            cache.show_views(config)
            if cache.views > distilled:
                raise ConfigError(f'distill.cache.views={cache.views}: the {self.title} learns from its '
                                  f'teachers for {distilled} epochs, so the views after the first '
                                  f'{distilled} would never be seen; the fewer views, the less the teachers '
                                  'work')
        return f'distilled for {distilled} of {epochs} epochs'

    def _check_labels(self, run: Run) -> str:
        network = run.network(self.title, model_config_of(self.training(run)))
        if getattr(network.data_preprocessor, 'to_onehot', False):
            raise ConfigError(f'distill.loss={self.distillation.settings.loss["type"]} needs one label an '
                              f'image, but the {self.title} is trained on mixed images (train_cfg.augments, '
                              'to_onehot); take them out, or leave distill.loss out')
        return 'one an image'

    def _check_size(self, run: Run) -> str:
        own = number_of_parameters(run.network(self.title, model_config_of(self.training(run))))
        teacher = number_of_parameters(self.teachers.example(run).networks[0])
        if own > teacher:
            before = 'teacher' if self.weighted else self.teachers.title
            run.warn(f'{self.title} has {own:,} parameters, more than the {before} that it learns from '
                     f'({teacher:,}): assistants are meant to stand between teacher and student. Is the '
                     'order of `assistants` from large to small?')
        return f'{own:,} parameters, its teacher {teacher:,}'

    # ------------------------------------------------------------ the page
    def report(self, run: Run, result: NetworkResult) -> Section:
        accuracy, error = top1(result.metrics), result.metrics.get('kd/error')
        summary = dict(accuracy_top1=accuracy, epoch=result.epochs, metrics=result.metrics,
                       checkpoint=result.checkpoint)
        also = {} if error is None else {'KD error, images on which a student and its teacher differ': error}
        curves = {self.title: read_curve(run.work_dir / self.name)}
        if self.teachers is None and self.name != STUDENT:
            return self._baseline_section(summary, curves)
        which = f'generation {self.network.generation}, ' if self.network.generation > 1 else ''
        how = 'no teacher' if self.teachers is None else 'distilled'
        row = Accuracy(self.title, f'{which}{how}, after epoch {result.epochs}', accuracy, also=also)
        if self.name != STUDENT:
            row = Accuracy(self.title, f'{how}, after epoch {result.epochs}', accuracy, also=also)
            summary = dict(links=[dict(summary, name=self.title)])
        else:
            summary = dict(student=summary)
        if self.teachers is None:
            return Section([row], curves, summary=summary)
        schedule = schedule_text(self.distillation.schedule.configs)
        shown = bool(schedule) and self.name == STUDENT
        return Section([row], curves, paragraphs=[f'Schedule: {schedule}.'] if shown else [],
                       lines=[f'schedule: {schedule}'] if shown else [],
                       cost=dict(student_epochs=result.epochs, student_hours=run.seconds[self.name] / 3600,
                                 students=1),
                       summary=dict(summary, schedule=self.distillation.schedule.configs))

    def _baseline_section(self, summary: dict, curves: dict) -> Section:
        first = self.name == BASELINE
        row = Accuracy(self.title, f'no teacher, after epoch {summary["epoch"]}', summary['accuracy_top1'],
                       'baseline')
        found = dict(students_alone=[summary], **(dict(student_alone=summary) if first else {}))
        return Section([row], curves if first else {}, summary=found)


def schedule_text(hooks: list[dict]) -> str:
    """Empty where the student is distilled alike from the first epoch to the last."""
    return '; '.join(f'{hook["type"].split(".")[-1]}(' +
                     ', '.join(f'{key}={value}'
                               for key, value in hook.items() if key not in ('type', 'dataset')) + ')'
                     for hook in hooks)
