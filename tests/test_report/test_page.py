"""report.json, the page and the table that are made of it."""

import re
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmpretrain.registry import RUNNERS

from ckd_mm.errors import CkdError
from ckd_mm.infoplane import InformationPlane, PlanePoint
from ckd_mm.report import Accuracy, Plane, Report, Section, Table, read_curve, results_table, write_page
from ckd_mm.report.page import TEMPLATE

from ..conftest import ROOT, run_tool

SCRIPT = '<script>alert(1)</script>'


@pytest.fixture
def report() -> Report:
    """Of a run with a stage that this package does not have."""
    sizes = Table({'size': 'd', 'loss': '.3f', 'why': ''}, [[10, 0.5, 'small'], [20, None, 'large']], [1],
                  'All sizes:', ['Only two.'])
    sections = dict(
        teacher=Section([Accuracy('teacher', 'after its last epoch, 30', 98, 'teacher')],
                        dict(teacher=[[1, 50.0], [2, 97.5]]), dict(teacher=[2]),
                        summary=dict(teacher=dict(epoch=30))),
        search=Section(title='Search', paragraphs=['Three were tried.'], warnings=['Too few.'],
                       tables=[sizes], planes=[Plane(epochs=[2])], lines=['searched: 2 sizes'],
                       summary=dict(sizes=[10], best=10)),
        student=Section([Accuracy('student', 'distilled', 90.456, also={'KD error': 3.25})],
                        dict(student=[[1, 40.0]])),
        pruned=Section([Accuracy.of('pruned', '', dict(support=[8, 9], recall=71.256, precision=2.0))]),
        again=Section([Accuracy('quantised', '', None, also={'KD error': 4, 'size': 25.0})],
                      summary=dict(sizes=[20], best=20)),
        student_alone=Section([Accuracy('student alone', 'no teacher', 84.2, 'baseline')]))
    return Report('demo', 'A run.', sections, dict(teacher=10.4, search=2.0), dict(torch='2.15'),
                  'model = dict()')


@pytest.fixture
def saved(report, tmp_path) -> Path:
    report.save(tmp_path)
    points = [PlanePoint(1, 0.1, 0.5), PlanePoint(2, 0.2, 0.9)]
    InformationPlane(points).save(tmp_path / 'information_plane.json')
    return tmp_path


def test_report_on_disk_in_summary_and_terminal(report, saved):
    assert Report.load(saved) == report
    assert report.summary() == dict(
        teacher=dict(epoch=30), sizes=[10, 20], best=20, seconds=dict(teacher=10.4, search=2.0),
        config=dict(name='demo', text='model = dict()'), versions=dict(torch='2.15'))
    # teachers, baselines, then what students there are; another metric, or 'n/a' where nothing was measured
    assert results_table(report).splitlines() == [
        '                                          top-1 %',
        'teacher        after its last epoch, 30     98.00',
        'student alone  no teacher                   84.20',
        'student        distilled                    90.46',
        'pruned                                   recall 71.26',
        'quantised                                     n/a',
        'KD error: student 3.25 %, quantised 4.00 %', 'size: quantised 25.00 %', 'searched: 2 sizes',
        '12 s in all: teacher 10, search 2']


def test_page_shows_a_stage_that_it_does_not_know(saved):
    page = write_page(saved).read_text()
    assert (saved / 'report.html').read_text() == page and page.count('<svg') == 2
    for expected in ('<tr><td>student</td><td>distilled</td><td class="n">90.46</td></tr>',
                     'KD error: student 3.25 %, quantised 4.00 %. size: quantised 25.00 %.',
                     '<h2>Search</h2>', '<p>Three were tried.</p>', '<p class="warn">Too few.</p>',
                     '<p>All sizes:</p>', '<p class="warn">Only two.</p>',
                     '<th class="n">size</th><th class="n">loss</th><th>why</th>',
                     '<tr><td class="n">10</td><td class="n">0.500</td><td>small</td></tr>',
                     '<tr class="chosen"><td class="n">20</td><td class="n">n/a</td><td>large</td></tr>',
                     '<td>teacher</td><td class="n">10.4</td>', '<td>torch</td><td>2.15</td>',
                     '<pre>model = dict()</pre>', 'teaches: epoch 2'):
        assert expected in page
    for figure in ('information_plane.png', 'training.png'):
        assert (saved / figure).read_bytes().startswith(b'\x89PNG')
    (saved / 'information_plane.json').unlink()
    assert write_page(saved).read_text().count('<svg') == 1, 'it can do without a removed plane'


def test_every_name_is_escaped(tmp_path):
    """Class, config and folder names, reasons: text and not markup, in the page and in its figures."""
    table = Table({SCRIPT: 'd', SCRIPT + 'text': ''}, [[1, SCRIPT]], [0], SCRIPT, [SCRIPT])
    section = Section([Accuracy(SCRIPT, SCRIPT, 1.0, also={SCRIPT: 1.0})], {SCRIPT: [[1, 2.0]]},
                      {SCRIPT: [1]}, SCRIPT, [SCRIPT], [SCRIPT], [table], lines=[SCRIPT])
    Report(SCRIPT, SCRIPT, {SCRIPT: section}, {SCRIPT: 1.0}, {SCRIPT: SCRIPT}, SCRIPT).save(tmp_path)
    page = write_page(tmp_path).read_text()
    assert '<script' not in page and page.count('&lt;script&gt;') == 20
    assert re.search('<svg.*&lt;script&gt;.*</svg>', page, re.DOTALL), 'the legend should show the name'


def test_a_run_of_hostile_names(distil_run, tmp_path):
    """Of its config, its folder and its classes, up to the page."""
    config = distil_run(probe=None, selector='last', work_dir=str(tmp_path / '<script>alert(1)'))
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset.metainfo = dict(classes=[f'{SCRIPT}{number}' for number in range(10)])
    config.dump(tmp_path / '<script>alert(2).py')
    run = Config.fromfile(tmp_path / '<script>alert(2).py', format_python_code=False)
    RUNNERS.build(run).train()
    page = Path(config.work_dir, 'report.html').read_text()
    assert '<script' not in page
    for name in ('<h1>&lt;script&gt;alert(2)</h1>', 'alert(1)&#39;', '&gt;alert(1)&lt;/script&gt;9'):
        assert name in page


@pytest.mark.parametrize('change, message', [
    (('{',), 'report.json cannot be read as JSON'), (('[]',), 'is no report'),
    (('report/1', 'report/0'), '"format" is .ckd_mm.report/0., expected .ckd_mm.report/1.'),
    (('"name": "demo",', ''), "report.json is damaged: .*'name'.* A run with --resume writes it anew"),
    (('"epochs": [', '"epoch": ['), "report.json is damaged: .*Plane.*'epoch'"),
    (('"sections"', '"section"'), "report.json is damaged: report: .*'section'"),
    (('"group": "teacher"', '"group": "x"'), r"accuracies\[0\].group='x' should be "),
    (('0.5,', ''), "does not fit the columns {'size'"),
    (('"size": "d"', '"size": "q"'), 'Unknown format code'),
    (('"file": "', '"file": "../'), r'planes.file=.* should be a path that stays below the folder')])
def test_damaged(saved, change, message):
    file = saved / 'report.json'
    before = file.read_text()
    file.write_text(before.replace(*change) if len(change) == 2 else change[0])
    assert file.read_text() != before
    with pytest.raises(CkdError, match=message):
        write_page(saved)
    assert not (saved / 'report.html').exists()


def test_missing(tmp_path):
    with pytest.raises(CkdError, match=f'^{tmp_path}/report.json does not exist'):
        write_page(tmp_path)


@pytest.mark.parametrize('row, message', [([1, 2], 'shorter'), ([0.5], "'float'")])
def test_a_row_fits_its_columns(row, message):
    with pytest.raises(TypeError, match=f'does not fit the columns .*size.*{message}'):
        Table({'size': 'd'}, [row])


def test_curve_of_a_run_in_two_parts(tmp_path):
    for part, lines in dict(a=['{"accuracy/top1": 1.0, "step": 1}', '{"loss": 3, "step": 2}',
                               '{"accuracy/top1": 2.0, "step": 2}', '{"accur'],
                            b=['{"accuracy/top1": 2.5, "step": 2}', '{"peer/top1": 9, "step": 2}']).items():
        (tmp_path / part / 'vis_data').mkdir(parents=True)
        (tmp_path / part / 'vis_data' / 'scalars.json').write_text('\n'.join(lines))
    assert read_curve(tmp_path) == [[1, 1.0], [2, 2.5]] and read_curve(tmp_path, 'peer/top1') == [[2, 9]]


def test_the_template_is_installed(tmp_path):
    run_tool(sys.executable, 'setup.py', '-q', 'build', '--build-base', tmp_path)
    installed, = tmp_path.glob(f'lib*/ckd_mm/report/{TEMPLATE}')
    assert installed.read_text() == (ROOT / 'ckd_mm' / 'report' / TEMPLATE).read_text()
