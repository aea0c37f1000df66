"""Manifests that are written anew."""

import json
import shutil
from pathlib import Path

import pytest
from mmengine.registry import RUNNERS

from ckd_mm.errors import CkdError, SnapshotError
from ckd_mm.trajectory import Trajectory
from ckd_mm.trajectory.repair import repair

from ..conftest import distil_config
from ..helpers import assert_same_weights, stopped_at, trajectory, weights_of

LOST = ('seconds', 'versions', 'total', 'images_sha256')


def damage(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 3:len(data) // 2] = b'x' * (len(data) // 2 - len(data) // 3)
    file.write_bytes(data)


@pytest.fixture(scope='module')
def interrupted(tmp_path_factory) -> Path:
    """A run that was killed while its student was trained."""
    folder = tmp_path_factory.mktemp('interrupted') / 'run'
    stopped_at(distil_config(folder), 'student', 1)
    return folder


@pytest.fixture
def run(interrupted, tmp_path) -> Path:
    shutil.copytree(interrupted, tmp_path / 'run')
    return tmp_path / 'run'


def facts(folder: Path) -> dict:
    found = json.loads((folder / 'trajectory.json').read_text())
    for values in (found, found['held_out'], *found['snapshots']):
        for key in LOST:
            values.pop(key, None)
    return found


def test_a_manifest_that_is_cut_in_half(tool, run, interrupted):
    manifest = run / 'trajectory.json'
    manifest.write_text(manifest.read_text()[:500])
    status, _, said = tool('trajectory.py', 'verify', run)
    assert status == 1 and f'python tools/trajectory.py repair {run}' in said
    with pytest.raises(CkdError, match=f'trajectory.json .*damaged.*trajectory.py repair {run}'):
        RUNNERS.build(distil_config(run, resume=True)).train()
    status, out, _ = tool('trajectory.py', 'repair', run)
    assert status == 0 and out.endswith(f'Written: {manifest}, epochs [1, 2, 3]\n')
    assert facts(run) == facts(interrupted)
    assert tool('trajectory.py', 'verify', run)[:2] == (0, ''.join(f'epoch {n}: whole\n' for n in (1, 2, 3)))


def test_the_run_goes_on_with_a_repaired_manifest(run, tmp_path):
    (run / 'trajectory.json').unlink()
    repair(run, {})
    RUNNERS.build(distil_config(run, resume=True)).train()
    RUNNERS.build(distil_config(tmp_path / 'unbroken')).train()
    assert_same_weights(weights_of(run / 'student.pth'), weights_of(tmp_path / 'unbroken' / 'student.pth'))


def test_a_damaged_snapshot_is_left_out(tool, tmp_path):
    written = trajectory(tmp_path)
    written.set_metrics(3, {'accuracy/top1': 91.5})
    damage(written.at(2).file)
    status, out, said = tool('trajectory.py', 'verify', tmp_path)
    assert status == 1 and 'epoch 1: whole' in out and 'epoch 3: whole' in out
    assert 'epoch_2.pth (epoch 2) is damaged' in out and '1 of 3 snapshots are damaged' in said
    status, out, _ = tool('trajectory.py', 'repair', tmp_path)
    assert status == 0 and 'left out: snapshot' in out and 'epochs [1, 3]' in out
    run = Trajectory.open(tmp_path)
    assert run.snapshots == [written.at(1), written.at(3)]
    run.check()


def test_a_damaged_snapshot_without_a_manifest_is_left_out(tmp_path):
    written, said = trajectory(tmp_path), []
    (tmp_path / 'trajectory.json').write_text('{"format"')
    damage(written.last.file)
    assert repair(tmp_path, {2: 50.0}, said.append).times == [1, 2]
    assert Trajectory.open(tmp_path).at(2).accuracy == 50.0
    assert 'made anew' in said[0] and 'epoch_3.pth' in said[1]


def test_nothing_is_written_where_nothing_is_whole(tmp_path):
    with pytest.raises(SnapshotError, match='no snapshot in .*/snapshots is whole'):
        repair(tmp_path, {})
    assert not list(tmp_path.iterdir())
