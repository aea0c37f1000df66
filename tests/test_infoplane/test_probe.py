"""The probe on real trajectories, by hook and by command."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from ckd_mm.data.split import held_out_indices
from ckd_mm.errors import ConfigError, SnapshotError
from ckd_mm.infoplane import InformationPlane, load_probe_images, probe_dataset
from ckd_mm.infoplane.probe import Probe, probe_trajectory
from ckd_mm.trajectory import Trajectory

from ..conftest import resnet

SETTINGS = dict(probe_split='test', decoder_epochs=3, decoder_batch=16)


@pytest.fixture
def run(digits_run, tmp_path):

    def train(hooks, name='run', **settings):
        config = digits_run(epochs=2, work_dir=tmp_path / name, model=resnet(2), custom_hooks=hooks,
                            **settings)
        return config, Runner.from_cfg(config).train()

    return train


SNAPSHOTS = dict(type='ckd_mm.SnapshotHook', interval=1)


def test_the_hook_and_the_command_measure_the_same(run, tmp_path):
    config, _ = run([SNAPSHOTS, dict(type='ckd_mm.InfoPlaneHook', **SETTINGS)])
    by_hook = InformationPlane.load(tmp_path / 'run' / 'information_plane.json')
    assert (tmp_path / 'run' / 'information_plane.png').stat().st_size > 1000
    later = probe_trajectory(Trajectory.open(tmp_path / 'run'), Probe(config, **SETTINGS),
                             tmp_path / 'later.json')

    def numbers(plane):
        return [(point.epoch, point.information_x, point.information_y, point.sha256)
                for point in plane.points]

    assert numbers(by_hook) == numbers(later) and len(later.points) == 2


def test_the_hook_does_not_disturb_training(run):
    _, with_hook = run([SNAPSHOTS, dict(type='ckd_mm.InfoPlaneHook', **SETTINGS)])
    _, without = run([], name='plain')
    assert all(torch.equal(value, without.state_dict()[key]) for key, value in with_hook.state_dict().items())


def test_the_hook_needs_snapshots(run):
    with pytest.raises(ConfigError, match='add dict.type=.ckd_mm.SnapshotHook'):
        run([dict(type='ckd_mm.InfoPlaneHook', **SETTINGS)])


def test_measured_snapshots_are_not_measured_again(run, tmp_path):
    config, _ = run([SNAPSHOTS])
    trajectory, path = Trajectory.open(tmp_path / 'run'), tmp_path / 'plane.json'
    probe = Probe(config, **SETTINGS)
    probe_trajectory(trajectory, probe, path)
    before = path.read_text()
    probe.measure = None  # would fail
    probe_trajectory(trajectory, probe, path)
    assert json.loads(path.read_text()) == json.loads(before)
    with pytest.raises(ConfigError, match='was measured in another way: decoder_epochs was 3, now 4'):
        probe_trajectory(trajectory, Probe(config, **{**SETTINGS, 'decoder_epochs': 4}), path)


def test_accuracy_is_that_of_validation(run, tmp_path):
    """On the test split I(Y;F) is what mmpretrain's own Accuracy said of the same images."""
    config, _ = run([SNAPSHOTS])
    trajectory = Trajectory.open(tmp_path / 'run')
    plane = probe_trajectory(trajectory, Probe(config, **SETTINGS), tmp_path / 'plane.json')
    assert [100 * point.information_y for point in plane.points] == pytest.approx(
        [snapshot.accuracy for snapshot in trajectory], abs=1e-3)


def test_a_damaged_snapshot_is_found_before_anything_is_measured(run, tmp_path):
    config, _ = run([SNAPSHOTS])
    trajectory = Trajectory.open(tmp_path / 'run')
    trajectory.last.file.write_bytes(b'x')
    with pytest.raises(SnapshotError, match='is damaged'):
        probe_trajectory(trajectory, Probe(config, **SETTINGS), tmp_path / 'plane.json')
    assert not (tmp_path / 'plane.json').exists()


def test_it_is_said_when_the_teacher_may_have_seen_the_images(run, tmp_path):
    config, _ = run([SNAPSHOTS])
    said = []
    plane = probe_trajectory(Trajectory.open(tmp_path / 'run'), Probe(config, held_out=16, decoder_epochs=1),
                             tmp_path / 'plane.json', said.append)
    assert plane.notes['teacher_trained_on_probe_images'] is True and any('Warning' in line for line in said)


def test_split(digits_run):
    """Held-out images come from the training set without augmentation, and are the same for the same seed."""
    config = digits_run(images=40)
    config.train_dataloader.dataset.pipeline = [
        dict(type='RandomCrop', crop_size=8, padding=1), dict(type='PackInputs')
    ]
    dataset = probe_dataset(config, 'held_out', 0.25, 7)
    first, second = (load_probe_images(dataset) for _ in range(2))
    assert len(first) == 10 and torch.equal(first.pixels, second.pixels)
    from sklearn.datasets import load_digits
    labels = load_digits().target[:40][held_out_indices(40, 0.25, 7)]
    assert first.labels.tolist() == labels.tolist()


@pytest.mark.parametrize('held_out, message', [(0, 'held_out=0 '), (1.0, 'held_out=1.0 '),
                                               (-3, 'held_out=-3 '), (64, 'hold out 64 of 64'),
                                               (0.001, 'hold out 0 of 64'), (True, 'held_out=True')])
def test_bad_amounts(held_out, message):
    with pytest.raises(ConfigError, match=message):
        held_out_indices(64, held_out, 0)


def test_a_training_set_that_cannot_be_divided(digits_run):
    config = digits_run()
    config.train_dataloader.dataset = Config(
        dict(x=dict(type='RepeatDataset', times=2, dataset=config.train_dataloader.dataset))).x
    with pytest.raises(ConfigError, match="type RepeatDataset has no pipeline of its own .* use "
                                          "probe_split='test'"):
        Probe(config)
