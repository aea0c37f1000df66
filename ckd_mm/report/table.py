"""The result of a run as text."""

from itertools import chain

from .section import Accuracy, Report, number

GROUPS = ('teacher', 'baseline', 'student')


def accuracy_rows(report: Report) -> list[Accuracy]:
    """Of all stages: teachers, baselines, students."""
    rows = chain.from_iterable(section.accuracies for section in report.sections.values())
    return sorted(rows, key=lambda row: GROUPS.index(row.group))


def further_percentages(report: Report) -> list[str]:
    """A sentence for each kind of percentage that some rows have besides their accuracy."""
    found: dict[str, list[str]] = {}
    for row in accuracy_rows(report):
        for what, value in row.also.items():
            found.setdefault(what, []).append(f'{row.name} {number(value)} %')
    return [f'{what}: {", ".join(values)}' for what, values in found.items()]


def results_table(report: Report) -> str:
    """The table in the terminal."""
    rows = [('', '', 'top-1 %'), *((row.name, row.what, row.shown) for row in accuracy_rows(report))]
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    seconds = ', '.join(f'{stage} {value:.0f}' for stage, value in report.seconds.items())
    return '\n'.join([
        *(f'{name:<{first}}  {what:<{second}}  {value:>8}' for name, what, value in rows),
        *further_percentages(report),
        *chain.from_iterable(section.lines for section in report.sections.values()),
        f'{sum(report.seconds.values()):.0f} s in all: {seconds}'])
