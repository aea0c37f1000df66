"""When snapshots are taken, as truth tables."""

import pytest

from ckd_mm.errors import ConfigError
from ckd_mm.trajectory import check_schedule, phase_end, snapshot_times


@pytest.mark.parametrize('max_epochs, settings, epochs', [
    (10, dict(interval=1), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    (10, dict(interval=5), [5, 10]),
    (10, dict(interval=4), [4, 8, 10]),  # and the last
    (10, dict(interval=10), [10]),
    (10, dict(interval=11), [10]),
    (10, dict(epochs=[7, 3, 7]), [3, 7]),  # just these
    (10, dict(epochs=(10, )), [10]),
    (200, dict(phases=2), [100, 200]),  # half-way and the end, as in CheckpointKD
    (200, dict(phases=5), [40, 80, 120, 160, 200]),
    (120, dict(phases=1), [120]),
    (10, dict(phases=3), [3, 7, 10]),
    (10, dict(phases=4), [3, 5, 8, 10]),
    (3, dict(phases=3), [1, 2, 3]),
    (1, dict(interval=1), [1])])
def test_truth_table(max_epochs, settings, epochs):
    assert snapshot_times(max_epochs, **settings) == epochs


def test_phases_are_equal_up_to_an_epoch_and_end_at_the_end():
    for max_epochs, phases in ((most, phases) for most in range(1, 31) for phases in range(1, most + 1)):
        ends = [0] + [phase_end(max_epochs, index, phases) for index in range(1, phases + 1)]
        assert ends[-1] == max_epochs
        assert all(abs((end - start) - max_epochs / phases) <= 1 for start, end in zip(ends, ends[1:]))
        assert len(set(ends)) == phases + 1


@pytest.mark.parametrize('settings, message', [
    (dict(), r'give exactly one of interval, epochs, iters, phases; got none of them'),
    (dict(interval=1, phases=2), r"got \{'interval': 1, 'phases': 2\}"),
    (dict(interval=0), r'interval=0 should be a whole number, at least 1'),
    (dict(interval=-3), r'interval=-3'),
    (dict(interval=1.5), r'interval=1\.5'),
    (dict(interval=True), r'interval=True'),
    (dict(phases='2'), r"phases='2'"),
    (dict(epochs=[]), r'epochs=\[\] should be a list of epochs, counted from 1'),
    (dict(epochs=[0, 1]), r'epochs=\[0, 1\]'),
    (dict(epochs=[1, '2']), r"epochs=\[1, '2'\]"),
    (dict(epochs='1,2'), r"epochs='1,2'")])
def test_bad_schedules_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        check_schedule(**settings)
    with pytest.raises(ConfigError, match=message):
        snapshot_times(10, **settings)


def test_schedules_that_do_not_fit_the_run():
    with pytest.raises(ConfigError, match='asks for epoch 12, but the run ends after 10 epochs'):
        snapshot_times(10, epochs=[5, 12, 11])
    with pytest.raises(ConfigError, match=r'phases=11 but the run has only 10 epochs'):
        snapshot_times(10, phases=11)
