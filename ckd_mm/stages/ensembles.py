"""Evaluate students together: all generations (ESKD, Table 4), and all students without a teacher."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ..evaluation import evaluate, top1
from ..pipeline.run import Run
from ..pipeline.stage import Result, Stage
from ..report.section import Accuracy, Section
from ..teachers import SnapshotEnsemble
from .select import SelectStage
from .student import StudentStage

WITH_TEACHER = 'generations and teacher'


@dataclass(kw_only=True)
class EnsemblesResult(Result):
    """``size`` and ``metrics`` of each ensemble, by its name."""
    ensembles: dict[str, dict]


class EnsemblesStage(Stage[EnsemblesResult]):
    """Evaluate several networks together: all generations (ESKD, Table 4), all baseline students.

    Args:
        members: stages whose networks are evaluated together, by the name of the ensemble.
        select: selected the teachers of the first generation, which are evaluated together with all
            generations; None: they are not.
    """
    name = 'ensembles'
    Result = EnsemblesResult
    is_cheap = True

    def __init__(self, members: dict[str, Sequence[StudentStage]], select: SelectStage | None) -> None:
        self.members, self.select = members, select
        evaluated = chain(*members.values(), () if select is None else (select, ))
        self.requires = tuple(dict.fromkeys(stage.name for stage in evaluated))

    def snapshots(self, run: Run) -> dict[str, list[dict]]:
        found = {name: [stage.snapshot(run) for stage in stages] for name, stages in self.members.items()}
        if self.select is not None:
            found[WITH_TEACHER] = self.select.chosen(run) + found['generations']
        return found

    def depends_on(self, run: Run) -> dict[str, Any]:
        return {name: [stage.fingerprint(run) for stage in stages] for name, stages in self.members.items()}

    def is_current(self, run: Run, result: EnsemblesResult) -> bool:
        """False where the config has more students than before: to evaluate them anew costs little."""
        return {name: len(found) for name, found in self.snapshots(run).items()} == {
            name: found['size'] for name, found in result.ensembles.items()}

    def execute(self, run: Run) -> EnsemblesResult:
        config = run.student_training()
        return EnsemblesResult(ensembles={
            name: dict(size=len(found), metrics=evaluate(SnapshotEnsemble(found), config, run.log, name))
            for name, found in self.snapshots(run).items()})

    def report(self, run: Run, result: EnsemblesResult) -> Section:
        shown = {name: dict(accuracy_top1=top1(found['metrics']), **found)
                 for name, found in result.ensembles.items()}
        return Section([Accuracy.of('ensemble', _what(name, found['size']), found['metrics'])
                        for name, found in shown.items()], summary=dict(ensembles=shown))


def _what(name: str, size: int) -> str:
    if name == WITH_TEACHER:
        return f'of the {size - 1} generations and their first teacher'
    return f'of the {size} {name}'
