"""Means and spreads over seeds, by hand, and what figures draw of them."""

import math

import pytest

from ckd_mm.report.sweep_figures import draw_ensembles, draw_sweep
from ckd_mm.sweep import SweepResults, load_results
from ckd_mm.sweep.results import mean_and_spread


def trial(kind, seed, accuracy, epoch=None, k=None, cohort=90.0, **cost):
    return dict(name=f'{kind}_{epoch or k}_{seed}', kind=kind, seed=seed, epoch=epoch, k=k, overrides={},
                status='finished', accuracy_top1=accuracy, cohort_accuracy_top1=cohort, cost=cost)


@pytest.fixture
def results():
    """Not in order; one trial of epoch 20 is unfinished."""
    trials = [
        trial('epoch', 2, 72.0, 20, cohort=80.0), trial('epoch', 0, 70.0, 20, cohort=80.0),
        trial('epoch', 1, 74.0, 10, cohort=60.0), trial('alone', 0, 65.0, cohort=None),
        trial('alone', 1, 67.0, cohort=None), dict(name='epoch_20_1', kind='epoch', seed=1, epoch=20, k=None,
             overrides={}, status='failed', error='OSError: full')
    ]
    for k, snapshot, full in ((1, 71.0, 71.0), (4, 73.0, 72.0)):
        trials += [trial('snapshot', 0, snapshot, k=k, total_epochs=30, total_hours=1.5),
                   trial('full', 0, full, k=k, total_epochs=20 * k + 10, total_hours=k + 0.5)]
    return SweepResults(trials, ['teacher'], 'model = 1')


def test_mean_and_spread():
    assert mean_and_spread([1.0, 2.0, 6.0]) == dict(n=3, mean=3.0, spread=math.sqrt((4 + 1 + 9) / 2))
    assert mean_and_spread([5.0]) == dict(n=1, mean=5.0, spread=None)
    assert mean_and_spread([]) == dict(n=0, mean=None, spread=None)


def test_groups(results):
    assert results.by_epoch() == {10: [74.0], 20: [70.0, 72.0]}
    first, second = results.epochs
    assert (first['epoch'], first['n'], first['mean'], first['spread']) == (10, 1, 74.0, None)
    assert (second['epoch'], second['mean'], second['seeds'], second['cohort_accuracy_top1']) == (20, 71.0, [
        0, 2
    ], 80.0)
    assert second['spread'] == pytest.approx(math.sqrt(2))
    assert (results.alone['mean'], results.alone['n']) == (66.0, 2)
    rows = results.ensembles
    assert [(row['kind'], row['k'], row['mean'], row['cost']['total_epochs']) for row in rows] == \
        [('full', 1, 71.0, 30), ('full', 4, 72.0, 90), ('snapshot', 1, 71.0, 30), ('snapshot', 4, 73.0, 30)]


def test_table(results):
    rows = [line.split() for line in results.table().splitlines()]
    assert rows[1] == ['nobody', '-', '66.00', '1.41', '2', '-', '-']
    assert rows[2] == ['epoch', '10', '60.00', '74.00', '-', '1', '-', '-']
    assert rows[5] == ['full,', 'k=4', '90.00', '72.00', '-', '1', '90', '4.5']


def test_written_and_read(results, tmp_path):
    written = results.write(tmp_path)
    assert [path.name for path in written] == ['results.json', 'sweep.png', 'ensembles.png'] and all(
        path.exists() for path in written)
    again = load_results(tmp_path)
    assert again.by_epoch() == results.by_epoch() and again.trajectory == [
        'teacher'
    ] and again.config_text == 'model = 1'
    assert again == load_results(tmp_path / 'results.json') == results


def lines_of(axes):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_draw_sweep(results):
    figure = draw_sweep(results.epochs, results.alone)
    above, below = figure.axes
    assert lines_of(above) == {'teacher after this epoch': ([10, 20], [60.0, 80.0])}
    assert lines_of(below) == {
        'student alone': ([10, 20], [66.0, 66.0]), 'distilled student': ([10, 20], [74.0, 71.0])
    }
    band = below.collections[1].get_paths()[0].vertices  # the first is that of the student alone
    at_20 = [y for x, y in band if x == 20]
    assert (min(at_20), max(at_20)) == pytest.approx((71 - math.sqrt(2), 71 + math.sqrt(2)))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert 'highest mean: epoch 10' in labels and 'over 1 to 2 seeds' in above.get_title()


def test_draw_ensembles(results):
    rows = results.ensembles
    left, epochs, hours = draw_ensembles(rows, results.alone).axes
    assert {bars.get_label(): list(bars.lines[0].get_ydata()) for bars in left.containers} == {
        'student of the Snapshot Ensemble': [71.0, 73.0], 'student of the Full Ensemble': [71.0, 72.0]}
    assert lines_of(left)['the Full Ensemble itself'] == ([1, 4], [90.0, 90.0])
    assert [list(line.get_ydata())
            for line in epochs.lines] == [[30, 30], [30, 90]] and epochs.get_ylabel().endswith('epochs')
    assert [list(line.get_ydata())
            for line in hours.lines] == [[1.5, 1.5], [1.5, 4.5]] and hours.get_ylabel().endswith('hours')
    for row in rows:
        row['cost']['total_hours'] /= 10
    minutes = draw_ensembles(rows).axes[2]
    assert [list(line.get_ydata())
            for line in minutes.lines] == [pytest.approx([9, 9]), pytest.approx([9, 27])]
    rows[0]['cost'].pop('total_hours')  # not measured of all
    assert [axes.get_ylabel() for axes in draw_ensembles(rows).axes] == ['top-1 %', 'teachers and '
                                                                                    'distillation, epochs']
