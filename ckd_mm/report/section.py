"""What each stage of a run shows, and ``report.json``, which holds it."""

import itertools
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..counting import EPOCH
from ..errors import CkdError, ConfigError
from ..files import write_json
from ..record import read_as, read_record
from ..trajectory.snapshot import ACCURACY

REPORT, FORMAT = 'report.json', 'ckd_mm.report/1'
REMEDY = 'A run with --resume writes it anew'


def number(value: str | float | None, form: str = '.2f') -> str:
    """A number as tables and sentences show it; a text stays as it is."""
    if value is None:
        return 'n/a'
    return value if isinstance(value, str) else format(value, form)


@dataclass(frozen=True)
class Accuracy:
    """A row of the table of accuracies. Those of teachers stand first, then baselines, then all others."""
    name: str  # 'teacher'
    what: str = ''  # 'after its last epoch, 30'
    top1: float | None = None  # percent; None: not measured
    group: Literal['teacher', 'baseline', 'student'] = 'student'
    also: dict[str, float] = field(default_factory=dict)  # further percentages: sentences below the table
    instead: dict[str, float] = field(default_factory=dict)  # a metric by its name, where top-1 is missing

    @classmethod
    def of(cls, name: str, what: str, metrics: dict[str, Any], group: str = 'student',
           also: dict[str, float] | None = None) -> 'Accuracy':
        """A row of what was measured: top-1, or else the first metric that is a number."""
        numbers = ((key, value) for key, value in metrics.items() if isinstance(value, (int, float)))
        instead = {} if ACCURACY in metrics else dict(itertools.islice(numbers, 1))
        return cls(name, what, metrics.get(ACCURACY), group, also or {}, instead)

    @property
    def shown(self) -> str:
        return next((f'{name} {number(value)}' for name, value in self.instead.items()), number(self.top1))


@dataclass(frozen=True)
class Table:
    """Raises TypeError where a row does not fit the columns."""
    columns: dict[str, str] = field(default_factory=dict)  # name to format of its numbers, '.2f'; '' for text
    rows: list[list[Any]] = field(default_factory=list)  # of texts, numbers and None, which is shown as n/a
    chosen: list[int] = field(default_factory=list)  # indices of rows, highlighted
    caption: str = ''  # above the table
    warnings: list[str] = field(default_factory=list)  # between both

    def __post_init__(self) -> None:
        try:
            self.cells()
        except ValueError as error:
            raise TypeError(f'a row does not fit the columns {self.columns}: {error}') from error

    def cells(self) -> list[list[str]]:
        return [[number(value, form) for value, form in zip(row, self.columns.values(), strict=True)]
                for row in self.rows]


@dataclass(frozen=True)
class Plane:
    """A figure of an information plane, which is written beside its data as .png."""
    file: str = 'information_plane.json'  # below the work_dir
    epochs: list[int] = field(default_factory=list)  # that teach, starred


@dataclass(frozen=True)
class Section:
    """What one stage shows."""
    accuracies: list[Accuracy] = field(default_factory=list)
    # of the figure of the training: name to points [epoch, accuracy in percent]; name to epochs to star
    curves: dict[str, list[list[float | None]]] = field(default_factory=dict)
    starred: dict[str, list[int]] = field(default_factory=dict)
    title: str | None = None  # None: what follows goes on under the heading before
    paragraphs: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    planes: list[Plane] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)  # further ones below the table in the terminal
    summary: dict[str, Any] = field(default_factory=dict)  # the stage's part of summary.json
    cost: dict[str, Any] = field(default_factory=dict)  # in the keys of pipeline.cost.cost_section


@dataclass(frozen=True)
class Report:
    """All that the page of a run is made of."""
    name: str  # of the config
    lead: str = ''  # a sentence below the title
    sections: dict[str, Section] = field(default_factory=dict)  # by stage, as the stages ran
    seconds: dict[str, float] = field(default_factory=dict)  # by stage
    versions: dict[str, str] = field(default_factory=dict)
    config: str = ''  # its text
    unit: Literal['epoch', 'iter'] = EPOCH  # what its trainings count

    def summary(self) -> dict[str, Any]:
        """Content of ``summary.json``. Lists of one key are joined, of other values the last counts."""
        found: dict[str, Any] = {}
        for section in self.sections.values():
            for key, value in section.summary.items():
                found[key] = found[key] + value if key in found and isinstance(value, list) else value
        return dict(found, seconds=self.seconds, config=dict(name=self.name, text=self.config),
                    versions=self.versions)

    def save(self, work_dir: Path) -> None:
        write_json(Path(work_dir) / REPORT, dict(format=FORMAT, **asdict(self)))

    @classmethod
    def load(cls, work_dir: Path) -> 'Report':
        """Raises CkdError if ``report.json`` is missing, damaged or another kind of file."""
        path = Path(work_dir) / REPORT
        found = read_record(path, FORMAT, 'report', REMEDY)
        found.pop('format')
        try:
            report = read_as(cls, 'report', found)
            return replace(report, sections={name: _read_section(f'sections.{name}', section)
                                             for name, section in report.sections.items()})
        except ConfigError as error:
            raise CkdError(f'{path} is damaged: {error}. {REMEDY}') from error


def _read_section(name: str, found: dict[str, Any]) -> Section:
    section = read_as(Section, name, found)
    return replace(section, **{
        key: [read_as(kind, f'{name}.{key}[{row}]', item) for row, item in enumerate(getattr(section, key))]
        for key, kind in dict(accuracies=Accuracy, tables=Table, planes=Plane).items()})
