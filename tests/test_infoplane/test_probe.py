"""The probe on real trajectories, by hook and by command."""

import json

import pytest
import torch
from mmengine.config import Config
from sklearn.datasets import load_digits

from ckd_mm.data.split import held_out_indices
from ckd_mm.errors import ConfigError, SnapshotError
from ckd_mm.infoplane import InformationPlane, load_probe_images, probe_dataset
from ckd_mm.infoplane.probe import Probe, probe_trajectory
from ckd_mm.trajectory import Trajectory

from ..conftest import resnet
from ..helpers import assert_same_weights, train, trajectory

SETTINGS = dict(probe_split='test', decoder_epochs=3, decoder_batch=16)
HOOK = dict(type='ckd_mm.InfoPlaneHook', **SETTINGS)


def test_the_hook_measures_what_the_command_does(digits_run, tmp_path):
    """Without disturbing training. On the test split I(Y;F) is mmpretrain's Accuracy of the same images."""
    config = digits_run(model=resnet(2), custom_hooks=[HOOK, dict(type='ckd_mm.SnapshotHook', interval=1)])
    with_hook = train(config).model
    without = train(digits_run(model=resnet(2), work_dir=tmp_path / 'plain')).model
    assert_same_weights(with_hook.state_dict(), without.state_dict())
    by_hook = InformationPlane.load(tmp_path / 'run' / 'information_plane.json')
    assert (tmp_path / 'run' / 'information_plane.png').stat().st_size > 1000
    snapshots = Trajectory.open(tmp_path / 'run')
    later = probe_trajectory(snapshots, Probe(config, **SETTINGS), tmp_path / 'later.json')
    hooked, called = ([(point.epoch, point.information_x, point.information_y, point.sha256)
                       for point in plane.points] for plane in (by_hook, later))
    assert hooked == called and len(called) == 2
    assert [100 * point.information_y for point in later.points] == pytest.approx(
        [snapshot.accuracy for snapshot in snapshots], abs=1e-3)


def test_the_hook_needs_snapshots(digits_run):
    with pytest.raises(ConfigError, match='add dict.type=.ckd_mm.SnapshotHook'):
        train(digits_run(custom_hooks=[HOOK]))


def test_the_hook_needs_one_label_an_image(digits_run):
    model = resnet()
    model['head']['type'] = 'MultiLabelLinearClsHead'
    model['head'].pop('loss')
    snapshots = dict(type='ckd_mm.SnapshotHook', interval=1)
    with pytest.raises(ConfigError, match='the network has a MultiLabelLinearClsHead'):
        train(digits_run(model=dict(_delete_=True, **model), custom_hooks=[HOOK, snapshots]))


def test_measured_snapshots_are_not_measured_again(digits_run, tmp_path):
    config, run, path = digits_run(), trajectory(tmp_path / 'run'), tmp_path / 'plane.json'
    probe = Probe(config, **SETTINGS)
    probe_trajectory(run, probe, path)
    before = path.read_text()
    probe.measure = None  # would fail
    probe_trajectory(run, probe, path)
    assert json.loads(path.read_text()) == json.loads(before)
    with pytest.raises(ConfigError, match='was measured in another way: decoder_epochs was 3, now 4'):
        probe_trajectory(run, Probe(config, **{**SETTINGS, 'decoder_epochs': 4}), path)


def test_a_damaged_snapshot_is_found_before_anything_is_measured(digits_run, tmp_path):
    run = trajectory(tmp_path / 'run')
    run.last.file.write_bytes(b'x')
    with pytest.raises(SnapshotError, match='is damaged'):
        probe_trajectory(run, Probe(digits_run(), **SETTINGS), tmp_path / 'plane.json')
    assert not (tmp_path / 'plane.json').exists()


def test_a_warning_where_the_teacher_may_have_seen_the_images(digits_run, tmp_path):
    lines = []
    plane = probe_trajectory(trajectory(tmp_path / 'run'), Probe(digits_run(), held_out=16, decoder_epochs=1),
                             tmp_path / 'plane.json', lines.append)
    assert plane.notes['teacher_trained_on_probe_images'] is True and any('Warning' in line for line in lines)


def test_split(digits_run):
    """Held-out images come from the training set without augmentation, and are the same for the same seed."""
    config = digits_run(images=40)
    config.train_dataloader.dataset.pipeline = [dict(type='RandomCrop', crop_size=8, padding=1),
                                                dict(type='PackInputs')]
    dataset = probe_dataset(config, 'held_out', 0.25, 7)
    first, second = (load_probe_images(dataset) for _ in range(2))
    assert len(first) == 10 and torch.equal(first.pixels, second.pixels)
    assert first.labels.tolist() == load_digits().target[:40][held_out_indices(40, 0.25, 7)].tolist()


@pytest.mark.parametrize('held_out, message', [(0, 'held_out=0 '), (1.0, 'held_out=1.0 '),
                                               (-3, 'held_out=-3 '), (64, 'hold out 64 of 64'),
                                               (0.001, 'hold out 0 of 64'), (True, 'held_out=True')])
def test_bad_amounts(held_out, message):
    with pytest.raises(ConfigError, match=message):
        held_out_indices(64, held_out, 0)


@pytest.mark.parametrize('settings', [
    dict(decoder_epochs=0), dict(decoder_lr=0), dict(fit_fraction=1.0), dict(decoder_batch=2.5),
    dict(reconstruct_size=0), dict(num_images=2), dict(probe_split='train'), dict(held_out=0)])
def test_bad_settings_are_named(digits_run, settings):
    (name, value), = settings.items()
    with pytest.raises(ConfigError, match=f'probe.{name}={value!r} should be'):
        Probe(digits_run(), **settings)


def test_a_training_set_that_cannot_be_divided(digits_run):
    config = digits_run()
    config.train_dataloader.dataset = Config(
        dict(x=dict(type='RepeatDataset', times=2, dataset=config.train_dataloader.dataset))).x
    with pytest.raises(ConfigError, match="type RepeatDataset has no pipeline of its own .* use "
                                          "probe_split='test'"):
        Probe(config)
