"""tools/compare_selectors.py on a sweep whose truth is written by hand."""

import pytest

from ckd_mm.files import read_json, write_json

from ..helpers import trajectory

ACCURACIES = {1: [50.0, 52.0], 2: [60.0, 62.0], 3: [58.0, 60.0]}


@pytest.fixture
def compare(distil_run, tool, tmp_path):
    """The tool with its config, beside two sweeps."""
    config = distil_run()
    config.train_dataloader.dataset.indices = 120
    config.probe = dict(held_out=64, decoder_epochs=1, decoder_batch=8)
    config.dump(tmp_path / 'config.py')
    run = trajectory(tmp_path / 'teacher', epochs=(1, 2, 3, 4))  # no student was taught by epoch 4
    for sweep in ('sweep', 'other'):
        write_json(tmp_path / sweep / 'results.json', dict(
            trajectory=[str(run.folder)],
            epochs=[dict(epoch=epoch, accuracies=found) for epoch, found in ACCURACIES.items()]))
    return lambda *arguments: tool('compare_selectors.py', tmp_path / 'config.py', *arguments)


def test_table_of_every_selector(compare, tmp_path):
    names = ['last', 'half_way', 'information_plane', 'cmi', 'calibration:measure=brier',
             'short_probe:epochs=1']
    folder = tmp_path / 'sweep' / 'selectors'
    status, out, error = compare(tmp_path / 'sweep', '--selectors', *names)
    assert status == 0, error
    found = read_json(folder / 'comparison.json')
    rows, means = {row['selector']: row for row in found['selectors']}, {1: 51.0, 2: 61.0, 3: 59.0}
    assert list(rows) == names
    for row in rows.values():
        assert row['regret'] == pytest.approx(61.0 - means[row['chosen']])
        assert set(row['scores']) == {'1', '2', '3'}
    # the scores 1, 2, 3 of `last` beside accuracies 51, 61, 59 (ranks 1, 3, 2): rho = 1 - 6 * 2 / (3 * 8)
    assert (rows['last']['chosen'], rows['last']['rho']) == (3, pytest.approx(0.5))
    assert (rows['half_way']['chosen'], rows['half_way']['regret']) == (2, 0.0)
    costs = {name: row['teacher_forwards'] for name, row in rows.items()}
    assert costs['last'] == costs['half_way'] == 0
    assert costs['cmi'] == costs['calibration:measure=brier'] == 3 * 64  # a forward pass of 64 images each
    assert costs['information_plane'] > costs['cmi'] < costs['short_probe:epochs=1']
    assert found['reliability'] == pytest.approx(1.0)
    assert '| `cmi` |' in out and (folder / 'comparison.png').stat().st_size > 10_000
    # again: what was scored is not scored anew
    before = (folder / 'cmi' / 'scores_cmi.json').stat().st_mtime_ns
    compare(tmp_path / 'sweep', '--selectors', 'cmi')
    assert (folder / 'cmi' / 'scores_cmi.json').stat().st_mtime_ns == before


def test_several_teachers(compare, tmp_path):
    out_folder = tmp_path / 'out'
    status, out, _ = compare(tmp_path / 'sweep', tmp_path / 'other', '--selectors', 'last', 'calibration',
                             '--out', out_folder)
    assert status == 0 and 'Means over 2 teachers' in out
    last, calibration = read_json(out_folder / 'summary.json')['rows']
    assert (calibration['selector'], calibration['trajectories']) == ('calibration', 2)
    assert (last['rho'], last['rho_spread'], last['regret']) == (pytest.approx(0.5), 0.0, pytest.approx(2.0))
    assert (out_folder / 'sweep' / 'comparison.png').exists()
    assert (out_folder / 'other' / 'comparison.md').exists()


@pytest.mark.parametrize('selector, message', [
    ('best', "selector: type='best' should be one of"), ('cmi:tau', 'expected NAME:KEY=VALUE'),
    ('epoch:epochs=4', 'wants epochs'), ('even:k=2', 'wants epochs')])
def test_bad_selectors_are_named_before_another_scores(compare, tmp_path, selector, message):
    status, _, error = compare(tmp_path / 'sweep', '--selectors', 'cmi', selector)
    assert status == 1 and message in error
    assert not list(tmp_path.rglob('scores_*.json'))


def test_no_sweep(compare, tmp_path):
    status, _, error = compare(tmp_path / 'nothing')
    assert status == 1 and 'results.json does not exist' in error
