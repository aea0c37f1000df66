"""What each stage of a run shows, and ``report.json``, which holds it."""

import types
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import CkdError
from ..files import read_json, write_json

REPORT = 'report.json'
FORMAT = 'ckd_mm.report/1'


def number(value: str | float | None, form: str = '.2f') -> str:
    """A number as tables and sentences show it; a text stays as it is."""
    if value is None:
        return 'n/a'
    return value if isinstance(value, str) else format(value, form)


@dataclass(frozen=True)
class Accuracy:
    """A row of the table of accuracies.

    Args:
        name: say 'teacher'.
        what: say 'after its last epoch, 30'.
        top1: percent; None where it was not measured.
        group: the rows of teachers stand first, then those of baselines, then all others, in the order of the
            sections.
        also: further percentages of this network by what they are; each kind is listed below the table.
    """
    name: str
    what: str = ''
    top1: float | None = None
    group: Literal['teacher', 'baseline', 'student'] = 'student'
    also: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """
    Args:
        columns: name of each to the format of its numbers, say '.2f' or 'd'; '' for text.
        rows: of texts, numbers and None ('n/a'), a cell a column.
        chosen: indices of the rows that are highlighted.
        caption: stands above the table, and below it the warnings.

    Raises:
        TypeError: a row has another number of cells, or a number is not of its column's format.
    """
    columns: dict[str, str] = field(default_factory=dict)
    rows: list[list[Any]] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    caption: str = ''
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        try:
            self.cells()
        except ValueError as error:
            raise TypeError(f'table with columns {list(self.columns)}: {error}') from error

    def cells(self) -> list[list[str]]:
        return [[number(value, form) for value, form in zip(row, self.columns.values(), strict=True)]
                for row in self.rows]


@dataclass(frozen=True)
class Plane:
    """A figure of an information plane.

    Args:
        file: JSON of the plane, below the work_dir; the figure is written beside it as .png.
        epochs: those that teach, starred.
    """
    file: str = 'information_plane.json'
    epochs: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """What one stage shows.

    Args:
        accuracies: rows of the table on top of the page.
        curves: of the figure of the training: name to points (epoch, accuracy in percent).
        starred: name of a curve to epochs that are starred on it.
        title: heading of paragraphs, warnings and tables; None: they go on under the heading before.
        lines: further lines of the table in the terminal.
        summary: what ``summary.json`` says of the stage.
    """
    accuracies: list[Accuracy] = field(default_factory=list)
    curves: dict[str, list[list[float | None]]] = field(default_factory=dict)
    starred: dict[str, list[int]] = field(default_factory=dict)
    title: str | None = None
    paragraphs: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    planes: list[Plane] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All that the page of a run is made of.

    Args:
        name: of the config.
        lead: one sentence below the title.
        sections: by stage, as the stages ran.
        seconds: that each stage took.
        config: its text.
    """
    name: str
    lead: str = ''
    sections: dict[str, Section] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    config: str = ''

    def summary(self) -> dict[str, Any]:
        """The content of ``summary.json``: the summaries of all sections in one dict. Lists of one key are
        joined (say the assistants, a stage each), of other values the last counts."""
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
        """
        Raises:
            CkdError: ``report.json`` is missing, damaged or another kind of file.
        """
        path = Path(work_dir) / REPORT
        found = read_json(path)
        if not isinstance(found, dict) or found.pop('format', None) != FORMAT:
            raise CkdError(f'{path} is no report: its "format" is not "{FORMAT}"')
        try:
            return from_plain(cls, found, 'report')
        except TypeError as error:
            raise CkdError(f'{path} is damaged: {error}. Run the finished config with --resume: it writes it '
                           'anew') from error


def from_plain(kind: Any, value: Any, name: str) -> Any:
    """``value``, made of JSON's types, as a dataclass or whatever else the annotation ``kind`` says.

    Raises:
        TypeError: it is of another type, or has a field too many or too few; names the place.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        missing = {part.name for part in fields(kind) if part.default is MISSING is part.default_factory}
        if value.keys() <= hints.keys() and missing <= value.keys():
            return kind(**{key: from_plain(hints[key], item, f'{name}.{key}') for key, item in value.items()})
    elif origin is list and isinstance(value, list):
        return [from_plain(parts[0], item, f'{name}[{index}]') for index, item in enumerate(value)]
    elif origin is dict and isinstance(value, dict):
        return {key: from_plain(parts[1], item, f'{name}.{key}') for key, item in value.items()}
    elif origin in (Union, types.UnionType):
        return value if value is None else from_plain(parts[0], value, name)  # all of ours are "or None"
    elif kind is Any or (value in parts if origin is Literal else type(value) is kind) or (
            kind is float and type(value) is int):
        return value
    raise TypeError(f'{name} should be {getattr(kind, "__name__", kind)}, is {str(value)[:60]!r}')
