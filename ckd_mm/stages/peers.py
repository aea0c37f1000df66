"""Train student and peer together, each from the other (deep mutual learning; Zhang et al., arXiv
1706.00384)."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config, ConfigDict
from torch import Tensor

from ..counting import WORDS
from ..evaluation import top1
from ..pipeline.network_checks import check_network
from ..pipeline.run import Run
from ..pipeline.stage import STUDENT, Check
from ..pipeline.training_stage import NetworkResult, TrainingStage, evaluated, stage_config, train
from ..report.curves import read_curve
from ..report.section import Accuracy, Section
from ..settings import Settings, setting
from ..training import as_list, trained_model, type_name
from ..trajectory import model_config_of
from ..validate import TEMPERATURE, WEIGHT, check_any


@dataclass(frozen=True, kw_only=True)
class PeerSettings(Settings):
    """``peer``: a network that learns together with the student."""
    model: dict = setting(help='mmpretrain classifier; or dict(cfg_path=FILE, ...)',
                          remedy='give peer=dict(model=...), an mmpretrain classifier')


@dataclass(frozen=True, kw_only=True)
class MutualSettings(Settings):
    """``distill`` of a run with ``peer``."""
    tau: float = setting(1.0, **TEMPERATURE, help='temperature; the paper has 1')
    ce_weight: float = setting(1.0, **WEIGHT, help="weight of each student's own loss")
    kd_weight: float = setting(1.0, **WEIGHT, help='weight of the distance from the other; 0: each learns '
                                                     'alone')


    def check(self, name: str) -> None:
        check_any(name, kd_weight=self.kd_weight, ce_weight=self.ce_weight)


@dataclass(kw_only=True)
class PeersResult(NetworkResult):
    """The student's result; ``peer`` holds the peer's."""
    peer: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, str]:
        return {**super().files, **NetworkResult(**self.peer).files}


class PeersStage(TrainingStage[PeersResult]):
    """Train the student and its peer together, each taught by the other (Zhang et al., arXiv 1706.00384)."""
    name = STUDENT
    Result = PeersResult

    def __init__(self, settings: PeerSettings, distill: MutualSettings) -> None:
        self.settings, self.distill = settings, distill

    def training(self, run: Run) -> Config:
        return run.student_training()

    def peer_training(self, run: Run) -> Config:
        config = run.student_training()
        config.model = copy.deepcopy(self.settings.model)
        return config

    def config(self, run: Run) -> Config:
        """Both networks in one model; the peer is validated too."""
        config = self.training(run)
        students = [model_config_of(own) for own in (config, self.peer_training(run))]
        config.model = ConfigDict(type='ckd_mm.DeepMutualLearning', students=students, **self.distill.given,
                                  compile=config.get('compile') or False)
        config.compile = None
        if config.get('val_evaluator') is not None:
            metrics = as_list(config.val_evaluator)
            config.val_evaluator = metrics + [_of_the_peer(metric) for metric in metrics
                                              if type_name(metric) == 'Accuracy']
        return stage_config(run, config, self.name, [])

    def checks(self, run: Run) -> Iterator[Check]:
        yield from super().checks(run)
        yield Check('peer', lambda: check_network('peer', run, self.peer_training(run)))

    def execute(self, run: Run) -> PeersResult:
        return self.finish(run, train(run, self.config(run), run.resume_from))

    def checkpoint_weights(self, run: Run) -> dict[str, Tensor]:
        networks = [run.network(name, model_config_of(config)) for name, config in (
            ('student', self.training(run)), ('peer', self.peer_training(run)))]
        return {f'students.{index}.{key}': value for index, network in enumerate(networks)
                for key, value in network.state_dict().items()}

    def finish(self, run: Run, runner: Any) -> PeersResult:
        student, peer = trained_model(runner).students
        found = evaluated(run, runner, self.training(run), run.work_dir / 'student.pth', student)
        other = evaluated(run, runner, self.peer_training(run), run.work_dir / 'peer.pth', peer)
        return PeersResult(**found.to_dict(), peer=other.to_dict(), stage_seconds=found.stage_seconds)

    def report(self, run: Run, result: PeersResult) -> Section:
        peer, folder = NetworkResult(**result.peer), run.work_dir / self.name
        word = WORDS[run.length.unit]
        rows = [Accuracy.of('student', f'with its peer, after {word} {result.epochs}', result.metrics),
                Accuracy.of('peer', f'with the student, after {word} {peer.epochs}', peer.metrics)]
        summary = {name: dict(accuracy_top1=top1(found.metrics), epoch=found.epochs, metrics=found.metrics,
                              checkpoint=found.checkpoint) for name, found in (('student', result),
                                                                               ('peer', peer))}
        return Section(rows, {'student': read_curve(folder), 'peer': read_curve(folder, 'peer/top1')},
                       summary=summary)


def _of_the_peer(metric: dict) -> dict:
    """Logged beside the student's, so under a name of its own."""
    own = dict(copy.deepcopy(metric), type='ckd_mm.PeerAccuracy')
    return own if own.get('prefix') is None else dict(own, prefix=f'peer_{own["prefix"]}')
