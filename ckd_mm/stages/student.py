"""Train a student: from teachers (CheckpointKD, Eq. 1 and 2), from an assistant or the generation before, or
alone."""

import copy
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config, ConfigDict

from ..classifier_heads import TwoTokens, logits_module
from ..counting import WORDS, Length, length_of
from ..distributed import on_main
from ..errors import CkdError, ConfigError
from ..evaluation import top1
from ..files import problem_of_file
from ..pipeline.network_checks import number_of_parameters
from ..pipeline.run import Run
from ..pipeline.stage import STUDENT, Check, TeachingStage
from ..pipeline.training_stage import NetworkResult, TrainingStage, evaluated, stage_config, train
from ..report.curves import read_curve
from ..report.section import Accuracy, Section
from ..students import CheckpointDistill
from ..teachers.snapshot_ensemble import find_snapshot
from ..training import apply_overrides, exclude_held_out, result_settings, shift_seed, unwrap, with_comparison
from ..trajectory import model_config_of
from .checks import check_predictions
from .distillation import Distillation
from .distiller_check import check_stage
from .gradient_check import check_first_weights, check_gradient
from .hint import HINT, HintStage
from .networks import BASELINE, Network
from .targets import TargetsStage, views_of
from .teacher import WhenSettings


class StudentStage(TrainingStage[NetworkResult], TeachingStage[NetworkResult]):
    """A student, a generation, an assistant, or a student without a teacher.

    Args:
        network: what it trains.
        teachers: the stage that teaches it; None: it is trained on its own loss.
        distillation: loss, weights and schedule.
        weighted: whether ``teacher_weights`` are of these teachers.
        snapshots: when to keep it while it learns.
        hint: the stage that leaves its first weights.
    """
    Result = NetworkResult

    def __init__(self, network: Network, teachers: TeachingStage | None = None,
                 distillation: Distillation | None = None, weighted: bool = True,
                 snapshots: WhenSettings | None = None, hint: HintStage | None = None) -> None:
        self.network, self.teachers, self.distillation = network, teachers, distillation
        self.weighted, self.snapshots, self.hint = weighted, snapshots, hint
        self.name, self.key = network.name, network.key
        self.held_out = None if distillation is None else distillation.schedule.comparison
        # a baseline sees the same views as the student that it is compared with
        self.cache = None if distillation is None else distillation.settings.cache
        self.targets = None if None in (self.cache, teachers) else TargetsStage(self.cache, self)
        self.requires = tuple(stage.name for stage in (teachers, hint, self.targets) if stage is not None)

    # ------------------------------------------------------------ the training
    def training(self, run: Run) -> Config:
        config, own = shift_seed(run.student_training(), self.network.seed_shift), self.network.settings
        if own is not None:
            config.load_from = None  # of another network
            config = apply_overrides(config, dict(own.overrides, model=own.model), self.key)
        return exclude_held_out(config, self.held_out)

    def config(self, run: Run) -> Config:
        config, hooks = self.training(run), []
        if self.cache is not None:
            self.cache.show_views(config)
        if self.teachers is not None:
            cohort = self.teachers.cohort(run)
            config = with_comparison(config, run.config, cohort)
            hooks += copy.deepcopy(self.distillation.schedule.configs)
            if self.hint is not None:
                config.load_from = str(run.folder(HintStage.name) / HINT)
            cached = self.targets is not None and not run.rehearses
            self.distilled(config, cohort, self.weighted, str(self.targets.folder(run)) if cached else None)
        if self.snapshots is not None:
            hooks.append(dict(type='ckd_mm.SnapshotHook', overwrite=True, **self.snapshots.given))
        return stage_config(run, config, self.name, hooks)

    def distilled(self, config: Config, cohort: dict, weighted: bool, targets: str | None = None) -> Config:
        """``config`` with its network distilled; in place.

        Args:
            weighted: whether ``teacher_weights`` are of this cohort.
            targets: folder of cached ones.
        """
        distill = self.distillation.settings
        own: dict[str, Any] = dict(distill.weights())
        if distill.reduction != 'mean':
            own['reduction'] = distill.reduction
        if targets is not None:
            own['targets'] = targets
        elif views_of(config) is not None and distill.distiller is None and distill.is_cacheable:
            own['teacher_batch'] = config.train_dataloader.batch_size  # as with cached targets, bit for bit
        config.model = ConfigDict(type='ckd_mm.CheckpointDistill', student=model_config_of(config),
                                  cohort=cohort, kd_loss=self.kd_loss(weighted),
                                  distiller=distill.distiller, compile=config.get('compile') or False, **own)
        config.compile = None
        return config

    def kd_loss(self, weighted: bool) -> dict[str, Any]:
        return {key: value for key, value in self.distillation.settings.kd_loss.items()
                if weighted or key != 'teacher_weights'}

    def depends_on(self, run: Run) -> dict[str, Any]:
        found = result_settings(self.config(run))
        if self.teachers is not None:
            found['model'].pop('cohort')
            if self.targets is not None:  # their stage has fingerprinted the content of given ones
                found['model']['targets'] = self.targets.name
            found['teachers'] = on_main(lambda: self.teachers.fingerprint(run))
        return found

    def execute(self, run: Run) -> NetworkResult:
        if self.targets is None and self.teachers is not None:
            on_main(lambda: self.teachers.verify(run))
        elif self.targets is not None and self.targets.name in run.done:  # made by an earlier process
            on_main(lambda: self.targets.verify(run))
        resume_from = run.resume_from if self.name == STUDENT else None
        result = self.finish(run, train(run, self.config(run), resume_from))
        if self.teachers is not None and self.name != STUDENT:  # it teaches the next one
            check_predictions(run, [find_snapshot(run.work_dir / result.checkpoint)], given=False)
        return result

    def finish(self, run: Run, runner: Any) -> NetworkResult:
        config = self.training(run)
        if self.teachers is not None:
            unwrap(runner.model).verify_targets()
            config = with_comparison(config, run.config, self.teachers.cohort(run))
        return evaluated(run, runner, config, run.work_dir / f'{self.name}.pth')

    # ------------------------------------------------------------ teaching
    def cohort(self, run: Run) -> dict[str, Any]:
        return dict(type='ckd_mm.SnapshotEnsemble', snapshots=[self.snapshot(run)],
                    **self.distillation.settings.memory)

    def snapshot(self, run: Run) -> dict[str, str]:
        """What it left, as a snapshot."""
        return dict(file=str(run.folder(self.name) / run.results[self.name].checkpoint))

    def fingerprint(self, run: Run) -> list[dict[str, Any]]:
        return [dict(sha256=run.results[self.name].sha256, **self.distillation.settings.precision)]

    def verify(self, run: Run) -> None:
        result = run.results[self.name]
        file = run.work_dir / result.checkpoint
        if problem := problem_of_file(file, result.sha256):
            raise CkdError(f'{file}, which the {self.title} left, {problem}; restore it, or choose another '
                           '--work-dir')

    # ------------------------------------------------------------ before anything is trained
    def checks(self, run: Run) -> Iterator[Check]:
        if self.teachers is None and self.network.seed_shift:  # the same again with another seed
            return
        yield from super().checks(run)
        if self.snapshots is not None:
            yield Check('snapshots', lambda: self._check_snapshots(run))
        if self.teachers is None:
            return
        yield Check('schedule', lambda: f'distilled for {(found := self.distilled_for(run))} {found.words}')
        if not self._has_begun(run):
            yield Check('first weights', lambda: check_first_weights(self, run))

    def needs_labels(self, run: Run) -> str | None:
        distill = None if self.teachers is None else self.distillation.settings
        if distill is None:
            return super().needs_labels(run)
        if distill.needs_labels:
            return f'{distill.kd_loss["type"]} compares with'
        changing = [type(hook).__name__ for hook in self.distillation.schedule.hooks
                    if hook.stops or hook.changes_weight]
        if changing:
            return f'the {self.title} learns from, since {changing[0]} changes the weights of the losses'
        if distill.ce_weight > 0:
            return f'the {self.title} learns from with distill.ce_weight={distill.ce_weight}; 0 needs none'
        if isinstance(logits_module(run.network(self.title, model_config_of(self.training(run)))), TwoTokens):
            raise ConfigError(f'distill.ce_weight=0: the {self.title} predicts the mean of a class token and '
                              'a distillation token, and the class token learns from labels alone; give a '
                              'ce_weight, or a head with distillation=False')
        return None

    def _has_begun(self, run: Run) -> bool:
        """Whether an earlier process had checked its teachers, which may not be needed any more."""
        return run.resumes and ((run.own_folder / self.name / 'last_checkpoint').exists()
                                or (self.targets is not None and self.targets.name in run.done))

    def _check_snapshots(self, run: Run) -> str:
        try:
            times = self.snapshots.at(length_of(self.training(run).train_cfg))
        except ConfigError as error:
            raise ConfigError(f'student_{error}') from error
        return f'{len(times)} of the {self.title}'

    def distilled_for(self, run: Run) -> Length:
        """When distillation has surely stopped; ConfigError where that cannot be."""
        length = length_of(self.training(run).train_cfg)
        try:
            return self.distillation.schedule.check(None if self.weighted else 1, length)
        except ConfigError as error:
            raise error if self.name == STUDENT else ConfigError(
                f'{self.title}, {length.text}: {error}') from error

    def rehearse(self, run: Run) -> str | None:
        if self.teachers is None and self.network.seed_shift:  # the same again with another seed
            return None
        if self.targets is not None and self.targets.name in run.done:  # its teachers may be gone
            return None
        distiller = None if self.teachers is None else self.distillation.settings.distiller
        seen = '' if distiller is None else check_stage(
            'distill.distiller', distiller, self.teachers, run, self.training(run)) + '; '
        return seen + super().rehearse(run)

    def look_at(self, run: Run, model: CheckpointDistill) -> str:
        if self.network.settings is not None:
            self._compare_sizes(run, model)
        distills = self.teachers is not None and (self.distillation.settings.kd_weight > 0
                                                  or self.distillation.schedule.anneals)
        if self.teachers is not None and not distills and self.distillation.settings.distiller is None:
            run.warn(f'{self.title}: distill.kd_weight=0, so that no teacher teaches')
        if not distills or self._has_begun(run):
            return ''
        return f'; gradient of distillation {check_gradient(self, run, model)}'

    def setting(self, run: Run, key: str) -> str:
        distill = None if self.teachers is None else self.distillation.settings
        own = [f'distill.{name}={getattr(distill, name)!r}' for name in ('loss', 'cohort')
               if getattr(distill, name, None) is not None]
        if own and self.targets is not None:
            own.append('distill.cache, which gives a loss a SoftTarget instead of logits,')
        return f'{super().setting(run, key)} with {", ".join(own)}' if own and key == 'model' \
            else super().setting(run, key)

    def _compare_sizes(self, run: Run, model: CheckpointDistill) -> None:
        own, teacher = map(number_of_parameters, (model.student, next(iter(model.cohort.networks))))
        if own > teacher:
            before = 'teacher' if self.weighted else self.teachers.title
            run.warn(f'{self.title} has {own:,} parameters, more than the {before} that it learns from '
                     f'({teacher:,}): assistants are meant to stand between teacher and student. Is the '
                     'order of `assistants` from large to small?')

    # ------------------------------------------------------------ the page
    def report(self, run: Run, result: NetworkResult) -> Section:
        accuracy, error = top1(result.metrics), result.metrics.get('kd/error')
        summary = dict(accuracy_top1=accuracy, epoch=result.epochs, metrics=result.metrics,
                       checkpoint=result.checkpoint)
        curves = {self.title: read_curve(run.work_dir / self.name)}
        how = f'{"no teacher" if self.teachers is None else "distilled"}, after {WORDS[run.length.unit]} ' \
              f'{result.epochs}'
        if self.teachers is None and self.name != STUDENT:
            first = dict(student_alone=summary) if self.name == BASELINE else {}
            row = Accuracy.of(self.title, how, result.metrics, 'baseline')
            return Section([row], curves if first else {}, summary=dict(students_alone=[summary], **first))
        if self.name == STUDENT and self.network.generation > 1:
            how = f'generation {self.network.generation}, {how}'
        also = {} if error is None else {'KD error, images on which a student and its teacher differ': error}
        summary = dict(student=summary) if self.name == STUDENT else dict(
            links=[dict(summary, name=self.title)])
        section = Section([Accuracy.of(self.title, how, result.metrics, also=also)], curves, summary=summary)
        if self.teachers is not None:
            hooks = self.distillation.schedule.configs
            section.summary['schedule'] = hooks
            section.cost.update(student_epochs=result.epochs, student_hours=run.seconds[self.name] / 3600,
                                students=1)
            if hooks and self.name == STUDENT:
                section.paragraphs.append(f'Schedule: {schedule_text(hooks)}.')
                section.lines.append(f'schedule: {schedule_text(hooks)}')
        return section


def schedule_text(hooks: list[dict]) -> str:
    """Hooks as a config would write them."""
    settings = [', '.join(f'{key}={value}' for key, value in hook.items() if key not in ('type', 'dataset'))
                for hook in hooks]
    return '; '.join(f'{hook["type"].split(".")[-1]}({own})' for hook, own in zip(hooks, settings))
