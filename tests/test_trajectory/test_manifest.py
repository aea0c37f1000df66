"""Whatever stands in a trajectory.json, it is read, or one line names file, key and value."""

import json

import pytest

from ckd_mm.errors import CkdError
from ckd_mm.trajectory import Trajectory

from ..helpers import trajectory

SHA256 = '0' * 64


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    return json.loads(trajectory(tmp_path_factory.mktemp('made'), (1, 2)).manifest.read_text())


def opened(folder, manifest: dict) -> Trajectory:
    (folder / 'trajectory.json').write_text(json.dumps(manifest))
    return Trajectory.open(folder)


@pytest.mark.parametrize('key, value, wanted', [
    ('epoch', '2', 'a whole number, at least 0'), ('epoch', -1, 'a whole number, at least 0'),
    ('epoch', 2.5, 'a whole number, at least 0'), ('epoch', True, 'a whole number, at least 0'),
    ('file', 3, 'a str: below the folder'), ('file', '/etc/passwd', 'a path that stays below the folder'),
    ('file', 'snapshots/../../epoch_2.pth', 'a path that stays below the folder'),
    ('metrics', [1], 'a dict'),
    ('metrics', {'accuracy/top1': float('nan')}, 'a finite number, at least 0'),
    ('metrics', {'accuracy/top1': '70'}, 'a finite number'),
    ('metrics', {'accuracy/top1': 101}, 'at most 100'),
    ('metrics', {'loss': float('inf')}, 'a finite number'), ('metrics', {'loss': 'low'}, 'a finite number'),
    ('iteration', 1.5, 'a whole number, at least 0'),
    ('lr', 'high', 'a finite number'), ('lr', float('nan'), 'a finite number'),
    ('size', -5, 'a whole number'),
    ('size', '10', 'a whole number'), ('sha256', 7, 'a str'), ('sha256', 'abc', '64 hexadecimal digits'),
    ('seconds', -1.0, 'a finite number, at least 0')])
def test_facts_of_a_snapshot(tmp_path, made, key, value, wanted):
    first, second = made['snapshots']
    with pytest.raises(CkdError, match=rf'^{tmp_path}/trajectory\.json is damaged: snapshots\[1\]\.{key}.*'
                                       rf'should be .*{wanted}') as caught:
        opened(tmp_path, dict(made, snapshots=[first, {**second, key: value}]))
    assert '\n' not in str(caught.value) and 'tools/trajectory.py repair' in str(caught.value)


@pytest.mark.parametrize('changes, message', [
    (dict(snapshots={}), r'snapshots=\{\} should be a list'),
    (dict(snapshots=[3]), r'snapshots\[0\]=3 should be a dict'),
    (dict(snapshots=[dict(file='a.pth')]), r'snapshots\[0\]\.epoch is missing'),
    (dict(model='resnet'), "model='resnet' should be a dict"),
    (dict(classes='abc'), "classes='abc' should be a"),
    (dict(classes=['a', 1]), r'classes\[1\]=1 should be the name of a class'),
    (dict(max_epochs='3'), "max_epochs='3' should be a whole number"),
    (dict(max_epochs=0), 'max_epochs=0 should be a whole number'),
    (dict(planned_epochs=1.5), 'planned_epochs=1.5 should be a whole number'),
    (dict(max_epochs=1), 'max_epochs=1 should be at least 2'),
    (dict(planned_epochs=1), 'planned_epochs=1 should be at least 2'),
    (dict(ema='x'), "ema='x' should be True or False"),
    (dict(snapshot_epochs=['1']), r"snapshot_epochs\[0\]='1' should be a whole number"),
    (dict(held_out=16), 'held_out=16 should be a dict'),
    (dict(held_out={'images': 'a'}), 'held_out.held_out is missing'),
    (dict(held_out=dict(held_out=-1, seed=0)), r'held_out\.held_out=-1 should be a finite number, above 0'),
    (dict(held_out=dict(held_out=16, seed='x')), r"held_out\.seed='x' should be a whole number"),
    (dict(held_out=dict(held_out=16, seed=0, total='x')), r"held_out\.total='x' should be a whole number"),
    (dict(versions=[]), r'versions=\[\] should be a dict')])
def test_facts_of_the_whole(tmp_path, made, changes, message):
    with pytest.raises(CkdError, match=rf'^{tmp_path}/trajectory\.json is damaged: {message}'):
        opened(tmp_path, {**made, **changes})


@pytest.mark.parametrize('key', ['epoch', 'file'])
def test_each_snapshot_is_there_once(tmp_path, made, key):
    first, second = made['snapshots']
    with pytest.raises(CkdError, match=rf'is damaged: snapshots: 2 have {key}=.*, each should have its own'):
        opened(tmp_path, dict(made, snapshots=[first, {**second, key: first[key]}]))


def test_what_is_not_known_may_be_left_out_or_none(tmp_path, made):
    """And what this version does not know may be there."""
    few = dict(format=made['format'], snapshots=[dict(epoch=1, file='a.pth')])
    assert opened(tmp_path, few).last.file == tmp_path / 'a.pth'
    none = dict(few, model=None, classes=None, max_epochs=None, new={'a': [1]}, snapshots=[
        dict(made['snapshots'][0], metrics={'accuracy/top1': None, 'matrix': [[1, 0]]}, lr=None, size=None,
             sha256=None, seconds=None, iteration=None, new=1)])
    assert opened(tmp_path, none).last.accuracy is None
