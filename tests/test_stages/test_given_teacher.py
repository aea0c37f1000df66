"""A trajectory on disk that cannot teach is refused before anything is trained."""

import json
from pathlib import Path

import pytest
from mmengine.registry import RUNNERS

from ckd_mm.errors import CkdError, ConfigError, SnapshotError

from ..conftest import resnet
from ..helpers import trajectory, with_statistics

SEVERAL = dict(resnet(2), head=dict(type='CSRAClsHead', num_classes=10, in_channels=8, num_heads=1, lam=0.1))


def missing(config, folder):
    (folder / 'snapshots' / 'epoch_1.pth').unlink()


def flipped(config, folder):
    file = folder / 'snapshots' / 'epoch_2.pth'
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def no_json(config, folder):
    (folder / 'trajectory.json').write_text('{"format": ')


def manifest(**changes):

    def change(config, folder):
        found = json.loads((folder / 'trajectory.json').read_text())
        (folder / 'trajectory.json').write_text(json.dumps({**found, **changes}))

    return change


def settings(**changes):
    return lambda config, folder: config.update(changes)


@pytest.mark.parametrize('damage, error, message', [
    (missing, SnapshotError, r'epoch_1.pth \(epoch 1\) does not exist'),
    (flipped, SnapshotError, r'epoch_2.pth \(epoch 2\) is damaged: its SHA-256'),
    (manifest(model=resnet(3)), SnapshotError, r'is not of the network type=ImageClassifier'),
    (manifest(classes=list('1023456789')), ConfigError, r"class 0 is '1' in teacher .* and '0' in "
     r'train_dataloader.dataset \(the same classes in another order\)'),
    (manifest(classes=list('abcdefghij')), ConfigError, r"class 0 is 'a' in teacher .* \(other classes\)"),
    (manifest(model=with_statistics(SEVERAL)), ConfigError, r'snapshot .*epoch_2.pth .* has a CSRAClsHead'),
    (manifest(snapshots=[]), SnapshotError, r'trajectory at .* is empty'),
    (no_json, CkdError, r'cannot be read as JSON'),
    (settings(teacher=dict(trajectory='nowhere')), SnapshotError, 'no trajectory at .*nowhere'),
    (settings(selector=dict(type='epoch', epochs=5)), ConfigError, r'no snapshot at \[5\]; it has \[1, 2\]'),
    (settings(selector=dict(type='ensemble', kind='full', k=2)), ConfigError,
     'needs 2 trainings of the teacher, but teacher.trajectory names 1'),
    (settings(model=resnet(classes=12)), ConfigError, 'num_classes=12'),
])
def test_given_trajectory(distil_run, tmp_path, damage, error, message):
    folder = trajectory(tmp_path / 'made', epochs=(1, 2)).folder
    config = distil_run(selector='last', probe=None)
    config.teacher = dict(trajectory=str(folder))
    damage(config, folder)
    with pytest.raises(error, match=message):
        RUNNERS.build(config).train()
    assert not list(Path(config.work_dir).rglob('*.pth')), 'nothing should be trained'
