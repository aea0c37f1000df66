"""The members of the three ensembles of CheckpointKD's Table 2 and Figure 3."""

from pathlib import Path

import pytest

from ckd_mm.errors import ConfigError
from ckd_mm.selection import build_selector
from ckd_mm.trajectory import Snapshot, Trajectory

CIFAR = range(10, 201, 10)


def select_all(runs: int, **ensemble):
    found = [Trajectory(Path(f'run_{run}'), [Snapshot(Path(f'{epoch}.pth'), epoch) for epoch in CIFAR],
                        dict(max_epochs=200)) for run in range(runs)]
    return build_selector(dict(type='ensemble', **ensemble)).select_all(found, [None] * runs)


@pytest.mark.parametrize('kind, k, members', [  # (training, epoch)
    ('snapshot', 1, [(0, 200)]),
    ('snapshot', 2, [(0, 100), (0, 200)]),  # EN3: T_inter and T_full of one run
    ('full', 1, [(0, 200)]),
    ('full', 2, [(0, 200), (1, 200)]),  # EN1: T_full of two runs
    ('mixed', 1, [(0, 200)]),
    ('mixed', 2, [(0, 100), (1, 200)]),  # EN2: T_inter of run 1, T_full of run 2
    ('snapshot', 4, [(0, 50), (0, 100), (0, 150), (0, 200)]),
    ('mixed', 4, [(0, 50), (1, 100), (2, 150), (3, 200)]),
    ('full', 4, [(0, 200), (1, 200), (2, 200), (3, 200)]),
    ('snapshot', 10, [(0, epoch) for epoch in range(20, 201, 20)])])
def test_members(kind, k, members):
    selector = build_selector(dict(type='ensemble', kind=kind, k=k))
    assert selector.runs == len({run for run, _ in members})
    found = select_all(selector.runs, kind=kind, k=k)
    assert [(run, snapshot.epoch) for run, selection in enumerate(found)
            for snapshot in selection.snapshots] == members
    for run in range(selector.runs):  # what a training must keep is what is chosen from it
        assert selector.wanted(200, run) == [epoch for where, epoch in members if where == run]


def test_seven_phases_of_200_epochs_are_wanted_where_they_end():
    # 200/7 = 28.57, 57.14, 85.71, 114.29, 142.86, 171.43, 200
    selector = build_selector(dict(type='ensemble', kind='snapshot', k=7))
    assert selector.wanted(200) == [29, 57, 86, 114, 143, 171, 200]


def test_further_trajectories_do_not_teach():
    found = select_all(3, kind='full', k=2)
    assert [len(selection.snapshots) for selection in found] == [1, 1, 0]
    assert found[2].reason == 'not needed for k=2'


@pytest.mark.parametrize('runs, ensemble, message', [
    (2, dict(kind='full', k=3),
     'full ensemble of k=3 needs 3 trainings of the teacher, but teacher.trajectory names 2'),
    (1, dict(kind='snapshot', k=7), r'no snapshot at \[29, 57, 86, 114, 143, 171\]')])
def test_what_is_missing(runs, ensemble, message):
    with pytest.raises(ConfigError, match=message):
        select_all(runs, **ensemble)
