"""Train the student up to its guided layer on the teacher's hint layer (FitNets; Romero et al., arXiv
1412.6550, Sec. 2.2)."""

from dataclasses import dataclass
from typing import Any

from mmengine.config import Config, ConfigDict

from ..counting import finished
from ..distributed import on_main
from ..infoplane.probe import Probe
from ..pipeline.run import Run
from ..pipeline.stage import Result, TeachingStage
from ..pipeline.training_stage import StageRunner, TrainingStage, stage_config, write_network
from ..report.section import Section
from ..settings import TrainingSettings, setting
from ..training import apply_overrides, exclude_held_out, trained_model
from ..trajectory import model_config_of
from .distiller_check import check_stage

HINT = 'hint.pth'  # left in the work_dir: the student starts from it


@dataclass(frozen=True, kw_only=True)
class HintSettings(TrainingSettings):
    """``hint``: a first stage of the student, trained like it but for what is said otherwise."""
    distiller: dict = setting(
        help='config of a ckd_mm.FeatureDistiller or an mmrazor.ConfigurableDistiller, whose losses are the '
             'hints',
        remedy='give the config of a ckd_mm.FeatureDistiller, whose losses are the hints')


@dataclass(kw_only=True)
class HintResult(Result):
    """``work_dir`` of the training, and its length in ``epochs``, or iterations."""
    epochs: int
    work_dir: str


class HintStage(TrainingStage[HintResult]):
    """Train the student's lower part to imitate a layer of the teacher (FitNets, Sec. 2.2).

    Args:
        teachers: the stage whose layer is imitated.
        held_out: images that the student is not trained on.
    """
    name = key = 'hint'
    Result = HintResult

    def __init__(self, settings: HintSettings, teachers: TeachingStage, held_out: Probe | None) -> None:
        self.settings, self.teachers, self.held_out = settings, teachers, held_out
        self.requires = (teachers.name, )

    def training(self, run: Run) -> Config:
        config = apply_overrides(run.student_training(), self.settings.overrides, self.key)
        return exclude_held_out(config, self.held_out)

    def config(self, run: Run) -> Config:
        config = self.training(run)
        config.model = ConfigDict(type='ckd_mm.HintTraining', student=model_config_of(config),
                                  cohort=self.teachers.cohort(run), distiller=self.settings.distiller,
                                  compile=config.get('compile') or False)
        # its classifier is not trained yet
        config.compile = config.val_dataloader = config.val_cfg = config.val_evaluator = None
        return stage_config(run, config, self.name, [])

    def needs_labels(self, run: Run) -> None:
        return None

    def depends_on(self, run: Run) -> dict[str, Any]:
        found = super().depends_on(run)
        found['model'].pop('cohort')
        return dict(found, teachers=on_main(lambda: self.teachers.fingerprint(run)))

    def rehearse(self, run: Run) -> str | None:
        found = check_stage('hint.distiller', self.settings.distiller, self.teachers, run, self.training(run))
        return f'{found}; {super().rehearse(run)}'

    def execute(self, run: Run) -> HintResult:
        on_main(lambda: self.teachers.verify(run))
        return super().execute(run)

    def finish(self, run: Run, runner: StageRunner) -> HintResult:
        on_main(lambda: write_network(run.work_dir / HINT, runner, trained_model(runner),
                                      run.student_training()))
        return HintResult(epochs=finished(runner), work_dir=runner.work_dir, stage_seconds=runner.seconds)

    def report(self, run: Run, result: HintResult) -> Section:
        return Section(cost=dict(student_epochs=result.epochs, student_hours=run.seconds[self.name] / 3600))
