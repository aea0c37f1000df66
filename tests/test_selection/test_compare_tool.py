"""tools/compare_selectors.py on a sweep whose truth is written by hand."""

import pytest

from ckd_mm.files import read_json
from ckd_mm.sweep.results import SweepResults

from ..helpers import trajectory

ACCURACIES = {1: [50.0, 52.0], 2: [60.0, 62.0], 3: [58.0, 60.0]}


@pytest.fixture
def compare(distil_run, tool, tmp_path):
    """The tool with its config, beside two sweeps."""
    config = distil_run()
    config.train_dataloader.dataset.indices = 120
    config.probe = dict(held_out=64, decoder_epochs=1, decoder_batch=8)
    config.dump(tmp_path / 'config.py')
    run = trajectory(tmp_path / 'teacher', epochs=(1, 2, 3, 4))  # nobody was taught by epoch 4
    trials = [
        dict(kind='epoch', name=f'epoch_{epoch}_seed_{seed}', epoch=epoch, k=None, seed=seed, overrides={},
             status='finished', accuracy_top1=value, cohort_accuracy_top1=90.0,
             cost={}) for epoch, found in ACCURACIES.items() for seed, value in enumerate(found)
    ]
    for sweep in ('sweep', 'other'):
        SweepResults(trials, [str(run.folder)], '').save(tmp_path / sweep / 'results.json')

    return lambda *arguments: tool('compare_selectors.py', tmp_path / 'config.py', *arguments)


def test_table_of_every_selector(compare, tmp_path):
    names = [
        'last', 'half_way', 'information_plane', 'cmi', 'calibration:measure=brier',
        'short_probe:epochs=1'
    ]
    status, out, error = compare(tmp_path / 'sweep', '--selectors', *names)
    assert status == 0, error
    found = read_json(tmp_path / 'sweep' / 'selectors' / 'comparison.json')
    rows = {row['selector']: row for row in found['selectors']}
    assert list(rows) == names
    means = {1: 51.0, 2: 61.0, 3: 59.0}
    for row in rows.values():
        assert row['regret'] == pytest.approx(61.0 - means[row['chosen']]) and set(
            row['scores']) == {'1', '2', '3'}
    # the scores 1, 2, 3 of `last` beside accuracies 51, 61, 59 (ranks 1, 3, 2): rho = 1 - 6 * 2 / (3 * 8)
    assert (rows['last']['chosen'], rows['last']['rho']) == (3, pytest.approx(0.5))
    assert (rows['half_way']['chosen'], rows['half_way']['regret']) == (2, 0.0)
    costs = {name: row['teacher_forwards'] for name, row in rows.items()}
    assert costs['last'] == costs['half_way'] == 0
    assert costs['cmi'] == costs[
        'calibration:measure=brier'] == 3 * 64  # a forward pass over the held-out images for each
    assert costs['information_plane'] > costs['cmi'] < costs['short_probe:epochs=1']
    assert found['reliability'] == pytest.approx(1.0)
    assert '| `cmi` |' in out and (tmp_path / 'sweep' / 'selectors' /
                                   'comparison.png').stat().st_size > 10_000
    # again: what was scored is not scored anew
    before = (tmp_path / 'sweep' / 'selectors' / 'cmi' / 'scores_cmi.json').stat().st_mtime_ns
    compare(tmp_path / 'sweep', '--selectors', 'cmi')
    assert (tmp_path / 'sweep' / 'selectors' / 'cmi' / 'scores_cmi.json').stat().st_mtime_ns == before


def test_several_teachers(compare, tmp_path):
    status, out, _ = compare(tmp_path / 'sweep', tmp_path / 'other', '--selectors', 'last', 'calibration',
                             '--out', tmp_path / 'out')
    assert status == 0 and 'Means over 2 teachers' in out
    rows = read_json(tmp_path / 'out' / 'summary.json')['rows']
    assert [(row['selector'], row['trajectories']) for row in rows] == [('last', 2), ('calibration', 2)]
    assert (rows[0]['rho'], rows[0]['rho_spread'], rows[0]['regret']) == (pytest.approx(0.5), 0.0,
                                                                        pytest.approx(2.0))
    assert (tmp_path / 'out' / 'sweep' / 'comparison.png').exists() and (tmp_path / 'out' / 'other' /
                                                                         'comparison.md').exists()


@pytest.mark.parametrize('selector, message', [
    ('best', "selector: type='best' should be one of"), ('cmi:tau', 'expected NAME:KEY=VALUE'),
    ('epoch:epochs=4', 'wants epochs'), ('even:k=2', 'wants epochs')])
def test_bad_selectors(compare, tmp_path, selector, message):
    status, _, error = compare(tmp_path / 'sweep', '--selectors', selector)
    assert status == 1 and message in error


def test_a_bad_selector_is_named_before_another_is_put_to_work(compare, tmp_path):
    status, _, error = compare(tmp_path / 'sweep', '--selectors', 'cmi', 'best')
    assert status == 1 and "type='best' should be one of" in error
    assert not list(tmp_path.rglob('scores_*.json'))


def test_no_sweep(compare, tmp_path):
    status, _, error = compare(tmp_path / 'nothing')
    assert status == 1 and 'results.json does not exist' in error
