"""Means and spreads over seeds, by hand, and what figures draw of them."""

import math

import pytest

from ckd_mm.report.sweep_figures import draw_ensembles, draw_sweep
from ckd_mm.sweep.collect import choose, summarise, sweep_table


def trial(kind, seed, accuracy, epoch=None, k=None, cohort=90.0, overrides=None, **cost):
    return dict(kind=kind, seed=seed, epoch=epoch, k=k, overrides=overrides or {}, status='finished',
                accuracy_top1=accuracy, cohort_accuracy_top1=cohort, cost=cost)


@pytest.fixture
def found():
    """Of trials that are not in order; one of epoch 20 is unfinished."""
    trials = [trial('epoch', 2, 72.0, 20, cohort=80.0), trial('epoch', 0, 70.0, 20, cohort=80.0),
              trial('epoch', 1, 74.0, 10, cohort=60.0), trial('alone', 0, 65.0, cohort=None),
              trial('alone', 1, 67.0, cohort=None),
              dict(kind='epoch', seed=1, epoch=20, k=None, overrides={}, status='unfinished')]
    for k, snapshot, full in ((1, 71.0, 71.0), (4, 73.0, 72.0)):
        trials += [trial('snapshot', 0, snapshot, k=k, total_epochs=30, total_hours=1.5),
                   trial('full', 0, full, k=k, total_epochs=20 * k + 10, total_hours=k + 0.5)]
    return summarise(trials)


def test_rows(found):
    first, second = found['epochs']
    assert (first['epoch'], first['n'], first['mean'], first['spread']) == (10, 1, 74.0, None)
    assert (second['epoch'], second['mean'], second['spread']) == (20, 71.0, pytest.approx(math.sqrt(2)))
    assert (second['accuracies'], second['seeds'], second['cohort_accuracy_top1']) == ([70, 72], [0, 2], 80.0)
    assert (found['alone']['mean'], found['alone']['n']) == (66.0, 2)
    rows = [(row['kind'], row['k'], row['mean'], row['cost']['total_epochs']) for row in found['ensembles']]
    assert rows == [('full', 1, 71.0, 30), ('full', 4, 72.0, 90), ('snapshot', 1, 71.0, 30),
                    ('snapshot', 4, 73.0, 30)]


def test_table(found):
    rows = [line.split() for line in sweep_table(found).splitlines()]
    assert rows[1] == ['none', '-', '66.00', '1.41', '2', '-', '-']
    assert rows[2] == ['epoch', '10', '60.00', '74.00', '-', '1', '-', '-']
    assert rows[5] == ['full,', 'k=4', '90.00', '72.00', '-', '1', '90', '4.5']


def lines_of(axes):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_draw_sweep(found):
    figure = draw_sweep(found['epochs'], found['alone'])
    above, below = figure.axes
    assert lines_of(above) == {'teacher after this epoch': ([10, 20], [60.0, 80.0])}
    assert lines_of(below) == {'student alone': ([10, 20], [66.0, 66.0]),
                               'distilled student': ([10, 20], [74.0, 71.0])}
    band = below.collections[1].get_paths()[0].vertices  # the first is that of the student alone
    at_20 = [y for x, y in band if x == 20]
    assert (min(at_20), max(at_20)) == pytest.approx((71 - math.sqrt(2), 71 + math.sqrt(2)))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert 'highest mean: epoch 10' in labels and 'over 1 to 2 seeds' in above.get_title()


def test_draw_ensembles(found):
    rows = found['ensembles']
    left, epochs, hours = draw_ensembles(rows, found['alone']).axes
    assert {bars.get_label(): list(bars.lines[0].get_ydata()) for bars in left.containers} == {
        'student of the Snapshot Ensemble': [71.0, 73.0], 'student of the Full Ensemble': [71.0, 72.0]}
    assert lines_of(left)['the Full Ensemble itself'] == ([1, 4], [90.0, 90.0])
    for axes, unit, lines in ((epochs, 'epochs', [[30, 30], [30, 90]]),
                              (hours, 'hours', [[1.5, 1.5], [1.5, 4.5]])):
        assert [list(line.get_ydata()) for line in axes.lines] == lines and axes.get_ylabel().endswith(unit)
    for row in rows:
        row['cost']['total_hours'] /= 10
    minutes = [list(line.get_ydata()) for line in draw_ensembles(rows).axes[2].lines]
    assert minutes == [pytest.approx([9, 9]), pytest.approx([9, 27])]
    rows[0]['cost'].pop('total_hours')  # not measured for all
    assert [axes.get_ylabel() for axes in draw_ensembles(rows).axes] == \
        ['top-1 %', 'teachers and distillation, epochs']


def test_a_search_chooses_the_highest_mean_of_each_teacher_and_not_the_highest_trial():
    trials = [trial('epoch', seed, accuracy, epoch, overrides={'distill.tau': tau})
              for epoch, tau, seed, accuracy in ((10, 1, 0, 60.0), (10, 4, 0, 65.0), (10, 1, 1, 71.0),
                                                 (10, 4, 1, 66.0), (20, 1, 0, 50.0), (20, 4, 0, 50.0))]
    rows = choose(trials)
    assert [(row['epoch'], row['overrides']['distill.tau'], row['mean'], row['best']) for row in rows] == \
        [(10, 1, 65.5, True), (10, 4, 65.5, False), (20, 1, 50.0, True), (20, 4, 50.0, False)]
    trials[1]['accuracy_top1'] = 66.0
    assert [row['best'] for row in choose(trials)] == [False, True, True, False]
