"""A trajectory on disk that cannot teach is refused before anything is trained."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.registry import RUNNERS

from ckd_mm.errors import CkdError, ConfigError, SnapshotError
from ckd_mm.trajectory import write_snapshot

from ..conftest import resnet
from ..helpers import network, prepared, trajectory, with_statistics

SEVERAL = dict(resnet(2), head=dict(type='CSRAClsHead', num_classes=10, in_channels=8, num_heads=1, lam=0.1))


def missing(config, folder):
    (folder / 'snapshots' / 'epoch_1.pth').unlink()


def flipped(config, folder):
    file = folder / 'snapshots' / 'epoch_2.pth'
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def without_manifest(config, folder):
    """A folder of checkpoints, as of any training; the first is no longer what it was."""
    (folder / 'trajectory.json').unlink()
    for file in (folder / 'snapshots').iterdir():
        file.rename(folder / file.name)
    return folder / 'epoch_1.pth'


def cut_in_a_folder(config, folder):
    file = without_manifest(config, folder)
    file.write_bytes(file.read_bytes()[:file.stat().st_size // 2])


def flipped_in_a_folder(config, folder):
    """A bit of a weight: any value is a weight, but the checksum in the file is another."""
    file = without_manifest(config, folder)
    data, weights = bytearray(file.read_bytes()), torch.load(file)['state_dict']
    data[data.index(weights['backbone.conv1.weight'].numpy().tobytes()) + 8] ^= 1
    file.write_bytes(bytes(data))


def other_network_in_a_folder(config, folder):
    file = without_manifest(config, folder)
    model = with_statistics(resnet(2, channels=2))
    write_snapshot(file, network(model, 1).state_dict(), epoch=1, model=model)


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
    (cut_in_a_folder, SnapshotError, r'epoch_1.pth \(epoch 1\) is damaged: its content is not'),
    (flipped_in_a_folder, SnapshotError, r'epoch_1.pth \(epoch 1\) is damaged: its content is not'),
    (other_network_in_a_folder, SnapshotError, r'epoch_1.pth \(epoch 1\) is not of the network'),
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


def test_teachers_are_read_as_long_as_they_are_needed(distil_run, tmp_path):
    """All before one is selected, then that one, and none when the students are trained."""
    folder = trajectory(tmp_path / 'made', epochs=(1, 2, 3)).folder
    config = distil_run(selector='last', probe=None)
    config.teacher = dict(trajectory=str(folder))
    config.student_alone = True
    (file, chosen) = (folder / 'snapshots' / f'epoch_{epoch}.pth' for epoch in (1, 3))
    whole = file.read_bytes(), chosen.read_bytes()
    for until in ('select', 'student'):
        RUNNERS.build(config).train(until=until)
        config.resume = True
        file.write_bytes(b'')
        if until == 'select':
            prepared(config)
            chosen.write_bytes(b'')
            with pytest.raises(SnapshotError, match=r'epoch_3.pth \(epoch 3\) is damaged'):
                prepared(config)
            file.write_bytes(whole[0])
            chosen.write_bytes(whole[1])
        else:
            chosen.write_bytes(b'')
            prepared(config)
