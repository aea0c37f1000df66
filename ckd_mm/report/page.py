"""One self-contained page about a run, made of ``report.json`` and ``page.html.j2``."""

from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..files import atomic_write
from ..infoplane.plane import InformationPlane
from ..validate import check_inside
from .figures import as_svg, draw_information_plane, draw_training
from .section import REPORT, Report, Table
from .table import accuracy_rows, further_percentages

PAGE, TEMPLATE = 'report.html', 'page.html.j2'


def write_page(work_dir: Path) -> Path:
    """Write ``report.html``, and its figures as .png, from the ``report.json`` of a finished run.

    Raises CkdError if that file, or one of an information plane, is missing or damaged.
    """
    work_dir = Path(work_dir)
    report = Report.load(work_dir)
    # autoescape: names are text, whatever they contain; only the figures are markup
    templates = Environment(loader=PackageLoader('ckd_mm', 'report'), autoescape=True, trim_blocks=True,
                            lstrip_blocks=True, undefined=StrictUndefined)
    text = templates.get_template(TEMPLATE).render(
        report=report, further=further_percentages(report),
        accuracies=Table({'network': '', 'what it is': '', 'top-1, %': '.2f'},
                         [[row.name, row.what, row.shown] for row in accuracy_rows(report)]),
        seconds=Table({'stage': '', 'seconds': '.1f'}, list(map(list, report.seconds.items()))),
        versions=Table({'package': '', 'version': ''}, list(map(list, report.versions.items()))),
        figures=[Markup(figure) for figure in _figures(report, work_dir)])
    atomic_write(work_dir / PAGE, text.encode())
    return work_dir / PAGE


def _figures(report: Report, work_dir: Path) -> Iterator[str]:
    """The information planes and the training, as <svg>."""
    sections = report.sections.values()
    for plane in (plane for section in sections for plane in section.planes):
        file = work_dir / plane.file
        check_inside(f'{work_dir / REPORT}: planes.file', plane.file)
        if file.exists():  # it may have been removed since; the page can do without its figure
            measured = InformationPlane.load(file)
            yield as_svg(draw_information_plane(measured, file.with_suffix('.png'), plane.epochs))
    curves = {name: curve for section in sections for name, curve in section.curves.items() if curve}
    starred = {name: epochs for section in sections for name, epochs in section.starred.items()}
    if curves:
        yield as_svg(draw_training(curves, starred, work_dir / 'training.png', report.unit))
