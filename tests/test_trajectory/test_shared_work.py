"""Work that several processes share, seen from one of them."""

from pathlib import Path

import pytest

from ckd_mm.errors import CkdError
from ckd_mm.trajectory import Snapshot, share_snapshots, shared_work

SNAPSHOTS = [Snapshot(Path(f'{epoch}.pth'), epoch=epoch) for epoch in range(1, 6)]


def silent(line):
    pass


def test_one_process_does_all_of_it():
    kept = []
    share_snapshots(SNAPSHOTS, lambda snapshot: snapshot.epoch**2, kept.append, silent, 'Squares')
    assert kept == [[1], [4], [9], [16], [25]]


@pytest.mark.parametrize('rank, mine', [(0, [1, 3, 5]), (1, [2, 4])])
def test_two_processes_take_turns(monkeypatch, rank, mine):
    measured = []
    monkeypatch.setattr(shared_work, 'get_rank', lambda: rank)
    monkeypatch.setattr(shared_work, 'get_world_size', lambda: 2)
    monkeypatch.setattr(shared_work, 'all_gather_object', lambda found: [found])
    share_snapshots(SNAPSHOTS, lambda snapshot: measured.append(snapshot.epoch), silent, silent, 'Work')
    assert measured == mine


def test_what_fails_here_is_raised_here_and_what_others_found_is_kept(monkeypatch):
    kept = []
    monkeypatch.setattr(shared_work, 'all_gather_object', lambda found: [found, ('theirs', None)])

    def fail(snapshot):
        raise ValueError('diverged')

    with pytest.raises(ValueError, match='diverged'):
        share_snapshots(SNAPSHOTS, fail, kept.append, silent, 'Work')
    assert kept == [['theirs']]


def test_what_fails_elsewhere_ends_the_work_here(monkeypatch):
    kept = []
    monkeypatch.setattr(shared_work, 'all_gather_object',
                        lambda found: [found, (None, 'ValueError: diverged')])
    with pytest.raises(CkdError, match='Probe failed in another process: ValueError: diverged'):
        share_snapshots(SNAPSHOTS, lambda snapshot: snapshot.epoch, kept.append, silent, 'Probe')
    assert kept == [[1]]
