"""Mount k classifier heads on the frozen teacher, train them, and teach with all k + 1 (DIH, Sec. 3.2)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ..counting import finished
from ..distributed import on_main
from ..errors import ConfigError, SnapshotError
from ..evaluation import evaluate_members, top1
from ..files import problem_of_file, sha256_of_file
from ..infoplane.probe import Probe
from ..pipeline.data_sets import image_shape
from ..pipeline.network_checks import number_of_parameters
from ..pipeline.run import Run
from ..pipeline.stage import Check, Result, TeachingStage
from ..pipeline.training_stage import StageRunner, TrainingStage, stage_config, train
from ..registry import MODELS
from ..report.section import Accuracy, Section
from ..settings import TrainingSettings, setting
from ..teachers import read_heads
from ..teachers.dih_teacher import TEACHER
from ..training import apply_overrides, exclude_held_out, trained_model
from ..trajectory import Snapshot
from .checks import check_teacher_weights
from .select import SelectStage
from .selection_page import percent, who_teaches
from .teacher import teacher_training

HEADS = 'heads.pth'  # left in the work_dir


@dataclass(frozen=True, kw_only=True)
class HeadSettings(TrainingSettings):
    """``heads``: classifier heads on the chosen snapshot's stages, trained like the teacher but for what is
    said otherwise."""
    out_indices: list | tuple | None = setting(None, help='mounting positions: outputs of the backbone that '
                                                          'get a head, say (0, 1, 2)')
    kind: str | None = setting(None, choices=('flatten', 'pool'), help=(
        "'flatten', a linear layer on the whole map (the paper); 'pool', on its average over a grid; "
        'default: by the size of the images'))
    grid: int | None = setting(None, at_least=1, help="side of the grid of 'pool'")
    file: str | Path | None = setting(None, help='instead of a training: the heads.pth of an earlier run')
    use: list | tuple | None = setting(None, help=(
        "which teach, say ['teacher', 0, 2]; default: all heads and the teacher"))

    def check(self, name: str) -> None:
        super().check(name)
        if (self.file is None) == (self.out_indices is None):
            both = 'none of them' if self.file is None else 'both'
            raise ConfigError(f'{name}: give either out_indices=(...), the stages of the teacher that get a '
                              f'classifier head, or file=..., the heads.pth of an earlier run; not {both}')
        if self.file is not None:
            if not Path(self.file).is_file():
                raise ConfigError(f'{name}.file={str(self.file)!r} does not exist; name the heads.pth of a '
                                  f'run with {name}.out_indices')

    @property
    def mounting(self) -> dict[str, Any]:
        """Settings of :class:`ckd_mm.teachers.HeadTraining`."""
        return {key: self.given[key] for key in ('out_indices', 'kind', 'grid') if key in self.given}


@dataclass(kw_only=True)
class HeadsResult(Result):
    """Metrics are those of the test set (Sec. 4.4)."""
    members: dict[str, dict]  # by name, heads from shallow to deep and the teacher
    ensemble: dict[str, float]  # of all together
    file: str
    sha256: str
    epochs: int  # of their training, or iterations; 0: they were given


class HeadsStage(TrainingStage[HeadsResult], TeachingStage[HeadsResult]):
    """k heads, each z_h(x) = W a_i(x) + b at a mounting position i (Eq. 3), learn the labels by cross-entropy
    from one forward pass of the frozen backbone. With the teacher they are the k + 1 teachers of Eq. 4.

    Args:
        select: chooses the one snapshot.
        held_out: images that the teacher was not trained on.
    """
    name = key = 'heads'
    requires = ('select', )
    Result = HeadsResult

    def __init__(self, settings: HeadSettings, select: SelectStage, held_out: Probe | None) -> None:
        self.settings, self.select, self.held_out = settings, select, held_out
        self.teacher, self.teacher_weights = select.teacher, select.distill.teacher_weights
        if select.distill.cohort is not None:
            raise ConfigError('heads: they teach with the snapshot that they are mounted on, as '
                              'ckd_mm.DIHTeacher; take distill.cohort or heads out')
        for key, value in {'teacher.input_size': self.teacher.input_size,
                           'teacher.class_map': self.teacher.class_map,
                           'distill.teacher_dtype': select.distill.teacher_dtype,
                           'distill.off_load': select.distill.off_load}.items():
            if value:
                raise ConfigError(f'{key}={value!r}: heads are mounted on a teacher as it is; take {key} or '
                                  'heads out')
        if settings.file is not None and self.teacher.is_trained:
            raise ConfigError(f'heads.file={str(settings.file)!r} belongs to a teacher that is trained '
                              'already: name it with teacher.trajectory, or give heads.out_indices to train '
                              'heads for the new one')
        if select.schedule.progressive or len(self.teacher.sources) > 1:
            several = 'ProgressiveTeacherHook' if select.schedule.progressive else 'all but one trajectory'
            raise ConfigError('heads: they are mounted on one snapshot, and several teach; take '
                              f'{several} out')

    # ------------------------------------------------------------ k heads learn from the frozen backbone
    def training(self, run: Run) -> Config:
        return apply_overrides(teacher_training(run, self.teacher), self.settings.overrides, 'heads')

    def input_shape(self, run: Run) -> tuple[int, ...]:
        """(C, H, W) of the training images."""
        return image_shape(run.data_set(self.training(run).train_dataloader.dataset,
                                        'train_dataloader.dataset of the heads'))

    def config(self, run: Run) -> Config:
        config = exclude_held_out(self.training(run), self.held_out)
        config.model = ConfigDict(type='ckd_mm.HeadTraining', snapshot=self.select.chosen(run)[0],
                                  model=self.teacher.model, input_shape=self.input_shape(run),
                                  **self.settings.mounting)
        config.compile = config.load_from = None
        return stage_config(run, config, self.name, [])

    def depends_on(self, run: Run) -> dict[str, Any]:
        if self.settings.file is not None:
            return dict(file=str(self.settings.file), use=self.settings.use)
        found = super().depends_on(run)
        found['model'].pop('snapshot')
        return dict(found, teachers=on_main(lambda: self.select.fingerprint(run)))

    def file(self, run: Run) -> Path:
        return Path(self.settings.file or run.folder(self.name) / HEADS)

    def write(self, run: Run, runner: StageRunner) -> None:
        """What :meth:`cohort` reads."""
        on_main(lambda: trained_model(runner).write(self.file(run)).file)

    def execute(self, run: Run) -> HeadsResult:
        epochs, seconds, file = 0, None, self.file(run)
        if self.settings.file is None:
            runner = train(run, self.config(run))
            epochs, seconds = finished(runner), runner.seconds
            self.write(run, runner)
        found = evaluate_members(MODELS.build(self.cohort(run)), run.student_training(), run.log)
        for name, metrics in [*found['members'].items(), ('ensemble', found['ensemble'])]:
            run.log(f'{name}: {percent(top1(metrics))} top-1')
        return HeadsResult(**found, file=str(file), sha256=sha256_of_file(file), epochs=epochs,
                           stage_seconds=seconds)

    # ------------------------------------------------------------ the cohort of k + 1 teachers
    def cohort(self, run: Run) -> dict[str, Any]:
        snapshot, (given, surely) = self.select.chosen(run)[0], self.given(run)
        if self.settings.file is not None and not surely and self.select.name not in run.results:
            own = read_heads(self.settings.file).teacher  # the selector may choose it
            snapshot = next((found for found in given if found.time == own.get(found.unit)), snapshot)
        return dict(type='ckd_mm.DIHTeacher', snapshot=snapshot, heads=str(self.file(run)),
                    use=self.settings.use, model=self.teacher.model)

    def fingerprint(self, run: Run) -> list[dict[str, Any]]:
        heads = dict(heads=run.results[self.name].sha256, use=self.settings.use)
        return [*self.select.fingerprint(run), heads]

    def verify(self, run: Run) -> None:
        self.select.verify(run)
        if problem := problem_of_file(self.file(run), run.results[self.name].sha256):
            raise SnapshotError(f'file {self.file(run)} of the heads that this run evaluated {problem}; '
                                'restore it, or choose another --work-dir')

    def given(self, run: Run) -> tuple[list[Snapshot], bool]:
        return self.select.given(run)

    def exists(self, run: Run) -> bool:
        return self.settings.file is not None

    # ------------------------------------------------------------ before anything is trained
    def checks(self, run: Run) -> Iterator[Check]:
        if self.settings.file is None:
            yield from super().checks(run)
        if not self.teacher.is_trained:
            yield Check('teacher', lambda: self.check_chosen(run))

    def rehearse(self, run: Run) -> str:
        found = ''
        if self.settings.file is None:
            runner, found = self.rehearse_training(run)
            self.write(run, runner)
        try:
            cohort = MODELS.build(self.cohort(run))
        except ConfigError as error:
            raise ConfigError(f'heads.{error}') from error
        return (f'{len(cohort.heads)} heads of {number_of_parameters(cohort.heads):,} parameters on outputs '
                f'{cohort.indices}' + (found and f'; {found}'))

    def check_chosen(self, run: Run) -> str:
        """Raises ConfigError unless one snapshot will be chosen, and every teacher has a weight."""
        chosen, settings = self.select.expected(run), self.settings
        if chosen != 1:
            raise ConfigError('heads: they are mounted on one snapshot, but the selector '
                              f'{run.config.get("selector")} chooses {chosen}')
        if settings.file is None:
            check_teacher_weights(self.teacher_weights, len(settings.use or [*settings.out_indices, TEACHER]))
        return 'one snapshot'

    # ------------------------------------------------------------ the page
    def report(self, run: Run, result: HeadsResult) -> Section:
        members = [dict(name=name, accuracy_top1=top1(metrics), metrics=metrics)
                   for name, metrics in result.members.items()]
        ensemble = dict(accuracy_top1=top1(result.ensemble), metrics=result.ensemble)
        rows = [Accuracy.of(member['name'], 'on its feature maps', member['metrics'], 'teacher')
                for member in members if member['name'] != TEACHER]
        together = who_teaches(run.results['select'], members=list(result.members))
        return Section(
            accuracies=[*rows, Accuracy.of('who teaches', together, result.ensemble, 'teacher')],
            cost=dict(head_epochs=result.epochs, head_hours=run.seconds[self.name] / 3600),
            summary=dict(heads=dict(members=members, ensemble=ensemble, file=result.file,
                                    epochs=result.epochs), cohort=dict(ensemble, size=len(members))))
