"""Who is in the three ensembles of CheckpointKD's Table 2 and Figure 3."""

from pathlib import Path

import pytest

from ckd_mm.errors import ConfigError
from ckd_mm.selection import build_selector
from ckd_mm.trajectory import Snapshot, Trajectory

CIFAR = range(10, 201, 10)


def runs(count, epochs=CIFAR):
    return [
        Trajectory(Path(f'run_{index}'),
                   [Snapshot(Path(f'run_{index}/{epoch}.pth'), epoch=epoch) for epoch in epochs],
                   dict(max_epochs=max(epochs))) for index in range(count)
    ]


@pytest.mark.parametrize(
    'kind, k, members', [
        ('snapshot', 1, [(0, 200)]),
        ('snapshot', 2, [(0, 100), (0, 200)]),  # EN3: T_inter and T_full of one run
        ('full', 1, [(0, 200)]), ('full', 2, [(0, 200), (1, 200)]),  # EN1: T_full of two runs
        ('mixed', 1, [(0, 200)]),
        ('mixed', 2, [(0, 100), (1, 200)]),  # EN2: T_inter of run 1, T_full of run 2
        ('snapshot', 4, [(0, 50), (0, 100), (0, 150), (0, 200)]),
        ('mixed', 4, [(0, 50), (1, 100), (2, 150), (3, 200)]),
        ('full', 4, [(0, 200), (1, 200), (2, 200), (3, 200)]),
        ('snapshot', 10, [(0, epoch) for epoch in range(20, 201, 20)])
    ])
def test_members(kind, k, members):
    selector = build_selector(dict(type='ensemble', kind=kind, k=k))
    assert selector.runs == len({run for run, _ in members})
    found = selector.select_all(runs(selector.runs), [None] * selector.runs)
    assert [(run, snapshot.epoch) for run, selection in enumerate(found)
            for snapshot in selection.snapshots] == members
    for run in range(selector.runs):  # what a training must keep is what is chosen from it
        assert selector.wanted(200, run) == [epoch for where, epoch in members if where == run]


def test_seven_phases_of_200_epochs_are_wanted_where_they_end():
    # 200/7 = 28.57, 57.14, 85.71, 114.29, 142.86, 171.43, 200
    assert build_selector(dict(type='ensemble', kind='snapshot',
                               k=7)).wanted(200) == [29, 57, 86, 114, 143, 171, 200]


def test_further_trajectories_do_not_teach():
    found = build_selector(dict(type='ensemble', kind='full', k=2)).select_all(runs(3), [None] * 3)
    assert [len(selection.snapshots)
            for selection in found] == [1, 1, 0] and found[2].reason == 'not needed for k=2'


def test_too_few_trajectories():
    with pytest.raises(ConfigError, match='full ensemble of k=3 needs 3 trainings of the teacher, but '
                                          'teacher.trajectory names 2'):
        build_selector(dict(type='ensemble', kind='full', k=3)).select_all(runs(2), [None] * 2)


def test_a_missing_phase_end():
    with pytest.raises(ConfigError, match=r'no snapshot at \[29, 57, 86, 114, 143, 171\]'):
        build_selector(dict(type='ensemble', kind='snapshot', k=7)).select_all(runs(1), [None])
