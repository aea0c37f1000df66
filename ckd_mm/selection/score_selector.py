"""Selectors that score every snapshot and choose the best."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import get_rank

from ..distributed import on_main
from ..errors import CkdError, ConfigError
from ..evaluation.logits import predict_logits
from ..files import plain, write_json
from ..record import read_record, require_same_settings
from ..settings import Settings, setting
from ..trajectory import Snapshot, Trajectory, share_snapshots
from ..validate import check_number
from .selector import Selection, SelectionContext, Selector

FORMAT = 'ckd_mm.scores/1'


@dataclass(frozen=True, kw_only=True)
class RowFacts(Settings):
    """What must stand in a row."""
    example = 'dict(epoch=1, score=0.5)'
    epoch: int = setting(at_least=0, help='finished epochs', remedy='every row has it')

    def check(self, name: str) -> None:
        if 'score' in self.given:
            check_number(f'{name}.score', self.given['score'])


@dataclass(frozen=True, kw_only=True)
class TableFacts(Settings):
    """What must stand in the file of a :class:`ScoreTable`."""
    example = 'dict(rows=[...])'
    rows: list = setting(help='a dict for each', remedy='every table has them')
    settings: dict = setting(help='what the scores depend on', remedy='every table has them')

    def check(self, name: str) -> None:
        for index, row in enumerate(self.rows):
            RowFacts.read(f'rows[{index}]', row)


class ScoreTable:
    """Scores of snapshots in a file (or only in memory), so that a killed selection is resumed where it
    stopped. Raises ConfigError if the file holds scores of other ``settings``, that is of anything that they
    depend on besides the snapshots."""

    def __init__(self, path: Path | None, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, plain(settings)
        self.rows: list[dict[str, Any]] = []
        if path is not None and Path(path).exists():
            found = read_record(path, FORMAT, 'table of scores', facts=TableFacts)
            require_same_settings(path, found['settings'], self.settings, 'scored', Path(path).parent)
            self.rows = found['rows']
        else:
            self.add([])  # before the work: what a killed selection leaves belongs to these settings

    def find(self, snapshot: Snapshot) -> dict[str, Any] | None:
        wanted = snapshot.time, snapshot.sha256
        return next((row for row in self.rows if (row['epoch'], row.get('sha256')) == wanted), None)

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add or replace rows, and write the file."""
        new = {(row['epoch'], row['sha256']) for row in rows}
        kept = [row for row in self.rows if (row['epoch'], row.get('sha256')) not in new]
        self.rows = sorted(kept + plain(rows), key=lambda row: row['epoch'])
        if self.path is not None and get_rank() == 0:
            write_json(self.path, dict(format=FORMAT, settings=self.settings, rows=self.rows))


def open_table(context: SelectionContext, name: str, settings: dict[str, Any]) -> ScoreTable:
    """The table in the context's folder, the same on every process."""
    path = None if context.folder is None else Path(context.folder) / f'scores_{name}.json'
    return on_main(lambda: ScoreTable(path, settings))


class ScoreSelector(Selector):
    """Chooses the snapshot with the highest score; of equals the earliest, the cheapest to train."""

    name: str
    unit: str
    needs_images = True

    @property
    def settings(self) -> dict[str, Any]:
        """What the scores depend on, of this selector's own settings."""
        return {key: value for key, value in vars(self).items() if not key.startswith('_')}

    def score(self, snapshot: Snapshot, context: SelectionContext) -> dict[str, float]:
        """``score``, of which more is better, ``teacher_forwards``, and any other numbers worth keeping."""
        raise NotImplementedError

    def select(self, trajectory, context=None):
        rows = self.table(trajectory, context)
        best = max(rows, key=lambda row: (row['score'], -row['epoch']))
        cost = {key: sum(row[key] for row in rows) for key in ('teacher_forwards', 'seconds')}
        reason = f'{best["score"]:.5g} {self.unit} is the most of {len(rows)} snapshots'
        return Selection([trajectory.at(best['epoch'])], reason, rows, self.unit, cost)

    def table(self, trajectory: Trajectory, context: SelectionContext | None) -> list[dict[str, Any]]:
        """Rows of all snapshots, measured where the table on disk lacks them."""
        if context is None or context.probe is None or (self.needs_student and context.student is None):
            student = ' and at the student' if self.needs_student else ''
            raise ConfigError(f'selector: {self.name} looks at images{student}, which only a config has: '
                              'pass --config')
        student = context.student.settings if self.needs_student else None
        settings = dict(self.settings, probe=context.probe.settings, student=student)
        table = open_table(context, self.name, settings)
        todo = [snapshot for snapshot in trajectory if table.find(snapshot) is None]
        if todo:
            images = len(context.probe.images)  # on all processes: some data sets wait for each other
            context.log(f'Selector {self.name}: scoring {len(todo)} of {len(trajectory)} snapshots on '
                        f'{images} images')
            context.probe.warn_if_seen(trajectory, context.log)
            self.fill(todo, table, trajectory, context)
        return [table.find(snapshot) for snapshot in trajectory]

    def fill(self, todo: Sequence[Snapshot], table: ScoreTable, trajectory: Trajectory,
             context: SelectionContext) -> None:
        """Score the snapshots that the table lacks; called on every process."""
        share_snapshots(todo, lambda snapshot: self._timed(snapshot, context), table.add, context.log,
                        f'Selector {self.name}')

    def _timed(self, snapshot: Snapshot, context: SelectionContext) -> dict[str, Any]:
        started = time.perf_counter()
        found = self.score(snapshot, context)
        if not all(math.isfinite(value) for value in found.values()):
            raise CkdError(f'selector: {self.name} of snapshot {snapshot} is not finite ({found}): its '
                           'training had diverged. Leave the snapshot out of the trajectory')
        return dict(epoch=snapshot.time, sha256=snapshot.sha256,
                    seconds=round(time.perf_counter() - started, 3), **found)


class LogitSelector(ScoreSelector):
    """A score of one forward pass over the held-out images."""

    def value(self, logits: torch.Tensor, labels: torch.Tensor) -> float:
        """The score of float64 logits (N, C) and labels (N,)."""
        raise NotImplementedError

    def score(self, snapshot, context):
        images = context.probe.images
        logits = predict_logits(snapshot.build(), images, torch.device(get_device()),
                                log=context.log).double()
        if images.labels.max() >= logits.shape[1]:
            raise ConfigError(f'selector: {self.name}: an image has label {int(images.labels.max())}, but '
                              f'the teacher {snapshot} has {logits.shape[1]} classes; use the data set it '
                              'was trained for')
        return dict(score=self.value(logits, images.labels),
                    teacher_accuracy=(logits.argmax(1) == images.labels).double().mean().item(),
                    teacher_forwards=float(len(images)))
