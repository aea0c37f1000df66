"""The honest baseline: short, true distillations."""

import math
import time
from collections.abc import Sequence
from typing import Any

from ..flops import network_flops
from ..registry import SELECTORS
from ..trajectory import Snapshot, Trajectory
from ..validate import check_int
from .score_selector import ScoreSelector, ScoreTable, open_table
from .selector import SelectionContext


@SELECTORS.register_module(name='short_probe')
class ShortProbeSelector(ScoreSelector):
    """Successive halving (Jamieson and Talwalkar, AISTATS 2016) over truly distilled short runs.

    All snapshots teach a student for ``epochs`` epochs of the student's own schedule; the best of them, by
    accuracy on the held-out images, go on to ``factor`` times as many epochs, and so on until one is left. A
    snapshot's score is its accuracy in percent in its last round, plus 100 for each round before that.

    Args:
        epochs: of the first round.
        factor: one snapshot of so many goes on, for so many times the epochs.
    """

    name, unit = 'short_probe', 'rounds before the last * 100 + accuracy in percent'
    needs_student = True

    def __init__(self, epochs: int = 1, factor: int = 2) -> None:
        self.first = check_int('selector: epochs', epochs, 1)
        self.factor = check_int('selector: factor', factor, 2)

    def fill(self, todo: Sequence[Snapshot], table: ScoreTable, trajectory: Trajectory,
             context: SelectionContext) -> None:
        # each run is an ordinary training, over all processes of a distributed run
        student, found = context.student, {}
        alive, epochs, rounds = list(trajectory), self.first, 0
        while True:
            epochs = min(epochs, student.epochs)
            # a table for each round: the student may have been trained further since
            done = open_table(context, f'{self.name}_round_{rounds + 1}', table.settings)
            for snapshot in alive:
                if done.find(snapshot) is None:
                    before = found.get(snapshot.time) or dict(images=0, teacher_forwards=0.0, seconds=0.0)
                    done.add([self._run(snapshot, trajectory, epochs, rounds, before, context)])
                found[snapshot.time] = done.find(snapshot)
            ranked = sorted(alive, key=lambda snapshot: (-found[snapshot.time]['accuracy'], snapshot.time))
            alive = sorted(ranked[:math.ceil(len(alive) / self.factor)], key=lambda snapshot: snapshot.time)
            if len(alive) == 1 or epochs == student.epochs:
                break
            epochs, rounds = epochs * self.factor, rounds + 1
        table.add(list(found.values()))

    def _run(self, snapshot: Snapshot, trajectory: Trajectory, epochs: int, rounds: int,
             before: dict[str, Any], context: SelectionContext) -> dict[str, Any]:
        started = time.perf_counter()
        accuracy, images, measured = context.student.distil(trajectory, snapshot, epochs)
        teacher_flops = network_flops(snapshot.build(), context.probe.images.pixels)
        relative = context.student.flops / max(teacher_flops, 1)
        forwards = (images - before['images']) * (1 + 3 * relative) + measured * relative
        context.log(f'Selector short_probe: a student of {snapshot.when} reaches {accuracy:.2f} % '
                    f'after {epochs} epochs')
        return dict(epoch=snapshot.time, sha256=snapshot.sha256, score=100.0 * rounds + accuracy,
                    accuracy=accuracy, student_epochs=epochs, images=images,
                    teacher_forwards=before['teacher_forwards'] + forwards,
                    seconds=round(before['seconds'] + time.perf_counter() - started, 3))
