"""Trajectories on disk: our manifest, and folders that other runs left."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS as CLASSIFIERS

from ckd_mm.errors import CkdError, SnapshotError
from ckd_mm.students import CheckpointDistill
from ckd_mm.trajectory import Snapshot, Trajectory, model_config_of, write_snapshot

from ..conftest import STATISTICS, resnet
from ..helpers import (
    DIGITS,
    assert_same_weights,
    network,
    train,
    trajectory,
    vision_transformer,
    with_statistics,
)

IMAGES = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(9))


# ---------------------------------------------------------------- a folder of ordinary checkpoints
@pytest.mark.parametrize('model', [resnet(2), vision_transformer()], ids=['resnet', 'transformer'])
def test_a_folder_of_ordinary_checkpoints(digits_run, model):
    """With no plugin in the run: epochs, and networks with the run's statistics that predict as they did."""
    config = digits_run(epochs=3, default_hooks=dict(checkpoint=dict(max_keep_ckpts=-1)))
    config.model = model
    config.optim_wrapper.optimizer.weight_decay = 1e-4
    config.optim_wrapper.paramwise_cfg = dict(custom_keys={'.cls_token': dict(decay_mult=0.0),
                                                           'backbone.layer1': dict(lr_mult=0.5)})
    runner = train(config)
    folder = Path(runner.work_dir)
    run = Trajectory.open(folder)
    assert run.times == [1, 2, 3] and run.length == 3 and len(run) == 3
    assert [snapshot.file for snapshot in run] == [folder / f'epoch_{epoch}.pth' for epoch in (1, 2, 3)]
    assert run.last is run.at(3) and run.last.classes == DIGITS
    assert run.last.model['data_preprocessor'] == dict(num_classes=10, mean=[77.9] * 3, std=[95.9] * 3,
                                                       to_rgb=False)
    assert run.last.model['backbone'] == model['backbone']
    data = next(iter(runner.val_dataloader))
    for epoch in (1, 3):
        original = CLASSIFIERS.build(dict(model, data_preprocessor=dict(runner.cfg.data_preprocessor)))
        load_checkpoint(original, str(folder / f'epoch_{epoch}.pth'), strict=True)
        ours = run.at(epoch).build().test_step(data)
        theirs = original.eval().test_step(data)
        assert all(torch.equal(mine.pred_score, its.pred_score) for mine, its in zip(ours, theirs))
    with torch.no_grad():
        assert torch.equal(run.last.build()(IMAGES), runner.model.eval()(IMAGES))


def test_epochs_are_ordered_as_numbers_and_other_files_ignored(tmp_path):
    state = network(with_statistics(resnet(2)), 1).state_dict()
    for name in ('epoch_10.pth', 'epoch_9.pth', 'epoch_100.pth', 'epoch_2.pth.tmp', 'best_epoch_7.pth',
                 'epoch_x.pth', 'iter_50.pth'):
        torch.save(dict(state_dict=state, meta={}), tmp_path / name)
    run = Trajectory.open(tmp_path, with_statistics(resnet(2)))
    assert run.times == [9, 10, 100] and run.length == 100
    assert_same_weights(dict(run.at(9).build().state_dict()), dict(state))


@pytest.mark.parametrize('meta', [{}, dict(cfg='max_epochs = 3\n')])
def test_checkpoints_that_do_not_say_their_network(tmp_path, meta):
    torch.save(dict(state_dict=network(resnet(2), 1).state_dict(), meta=meta), tmp_path / 'epoch_1.pth')
    run = Trajectory.open(tmp_path)
    assert run.last.model is None and run.last.classes is None
    with pytest.raises(SnapshotError, match=r'epoch_1\.pth \(epoch 1\) does not say which network it is of'):
        run.last.build()
    assert replace(run.last, model=resnet(2)).build().training is False


@pytest.mark.parametrize('kind', ['ckd_mm.CheckpointDistill', CheckpointDistill])
def test_the_network_of_a_distilled_student_is_the_student(kind):
    """Also where the type is a class, as in configs that are written in pure Python."""
    assert model_config_of(dict(model=dict(type=kind, student=resnet()),
                                data_preprocessor=dict(STATISTICS))) == with_statistics(resnet())


def test_hostile_config_text_in_a_checkpoint(tmp_path):
    marker = tmp_path / 'marker'
    meta = dict(cfg=f"model = __import__('os').mkdir({str(marker)!r})\n")
    torch.save(dict(state_dict=network(resnet(2), 1).state_dict(), meta=meta), tmp_path / 'epoch_1.pth')
    with pytest.raises(SnapshotError, match=r'epoch_1\.pth cannot be read without running it'):
        Trajectory.open(tmp_path)
    assert not marker.exists()


def test_a_moved_trajectory_also_without_its_manifest(tmp_path):
    trajectory(tmp_path / 'here')
    shutil.move(str(tmp_path / 'here'), tmp_path / 'there')
    moved = Trajectory.open(tmp_path / 'there')
    moved.check()
    assert moved.last.file == tmp_path / 'there' / 'snapshots' / 'epoch_3.pth'
    run = Trajectory.open(tmp_path / 'there' / 'snapshots')
    assert run.times == [1, 2, 3] and run.last.classes == DIGITS
    assert torch.equal(run.at(2).build()(IMAGES), network(with_statistics(resnet(2)), 2)(IMAGES))


# ---------------------------------------------------------------- our manifest
def test_a_trajectory_comes_back_from_disk(tmp_path):
    written = trajectory(tmp_path, epochs=(2, 10, 9))
    written.set_metrics(9, {'accuracy/top1': 91.5})
    for path in (tmp_path, tmp_path / 'trajectory.json'):
        run = Trajectory.open(path)
        assert run.times == [2, 9, 10] and run.length == 10
        assert list(run) == list(written)
        assert run.at(9).accuracy == 91.5 and run.at(10).accuracy is None
        assert run.at(2).iteration == 8 and run.at(2).lr == 0.1
        run.check()


def test_a_snapshot_of_the_same_epoch_replaces_it_and_metrics_add_up(tmp_path):
    run = trajectory(tmp_path, epochs=(1, 2))
    state = network(with_statistics(resnet(2)), 99).state_dict()
    run.add(write_snapshot(run.at(1).file, state, epoch=1, model=run.info['model'], classes=DIGITS))
    run.set_metrics(1, {'accuracy/top1': 50.0})
    run.set_metrics(1, {'accuracy/top5': 90.0})
    reopened = Trajectory.open(tmp_path)
    assert reopened.times == [1, 2]
    assert reopened.at(1).metrics == {'accuracy/top1': 50.0, 'accuracy/top5': 90.0}
    assert_same_weights(dict(reopened.at(1).build().state_dict()), dict(state))


def test_building_leaves_the_random_state(tmp_path):
    run = trajectory(tmp_path)
    before = torch.get_rng_state()
    built = run.last.build()
    assert torch.equal(torch.get_rng_state(), before)
    assert not built.training and not any(parameter.requires_grad for parameter in built.parameters())


# ---------------------------------------------------------------- bad input
def test_nothing_there(tmp_path):
    with pytest.raises(SnapshotError, match=f'no trajectory at {tmp_path}/nowhere: expected a'):
        Trajectory.open(tmp_path / 'nowhere')
    with pytest.raises(SnapshotError, match=rf'{tmp_path} is empty: no trajectory\.json with snapshots'):
        Trajectory.open(tmp_path)
    Trajectory(tmp_path).save()
    with pytest.raises(SnapshotError, match='is empty'):
        Trajectory.open(tmp_path)


@pytest.mark.parametrize('text, message', [
    ('', r'trajectory\.json cannot be read as JSON'),
    ('{"format": "ckd_mm.traj', r'trajectory\.json cannot be read as JSON'),
    ('[]', r'trajectory\.json is no trajectory'),
    ('{"format": "ckd_mm.trajectory/99"}', "is no trajectory: its .* is 'ckd_mm.trajectory/99', expected"),
    ('{"format": "ckd_mm.trajectory/1", "snapshots": [{"epoch": 1}]}',
     r'trajectory\.json is damaged: snapshots\[0\]\.file is missing'),
    ('{"format": "ckd_mm.trajectory/1", "snapshots": [3]}', r'is damaged'),
    ('{"format": "ckd_mm.trajectory/1", "snapshots": 3}', r'is damaged')])
def test_damaged_manifests(tmp_path, text, message):
    (tmp_path / 'trajectory.json').write_text(text)
    with pytest.raises(CkdError, match=message):
        Trajectory.open(tmp_path)


def test_an_epoch_that_is_not_there(tmp_path):
    with pytest.raises(SnapshotError, match=r'no snapshot at epoch 5 in .*: there are \[1, 2, 3\]\. Choose'):
        trajectory(tmp_path).at(5)


def test_check_names_the_damaged_file(tmp_path):
    run = trajectory(tmp_path)
    run.check()
    data = bytearray(run.at(2).file.read_bytes())
    data[-1] ^= 1
    for epoch, content, message in ((2, data, 'SHA-256 is not the one in its manifest'),
                                    (1, b'', '0 bytes where its manifest says')):
        run.at(epoch).file.write_bytes(content)
        with pytest.raises(SnapshotError, match=rf'{epoch}\.pth \(epoch {epoch}\) is damaged: .*{message}'):
            Trajectory.open(tmp_path).check()


def test_the_manifest_is_json_of_plain_values(tmp_path):
    run = trajectory(tmp_path)
    run.info.update(number=torch.tensor(1.5), nothing=float('nan'), kind=torch.nn.Linear, where=tmp_path)
    run.set_metrics(1, {'accuracy/top1': float('inf')})
    manifest = json.loads((tmp_path / 'trajectory.json').read_text(),
                          parse_constant=lambda name: pytest.fail(name))
    assert (manifest['number'], manifest['nothing'], manifest['where']) == (1.5, None, str(tmp_path))
    assert manifest['kind'] == 'torch.nn.modules.linear.Linear'
    assert manifest['snapshots'][0]['metrics'] == {'accuracy/top1': None}


def test_a_snapshot_names_itself():
    assert str(Snapshot(Path('a/b.pth'), epoch=3)) == 'a/b.pth (epoch 3)'
    assert str(Snapshot(Path('a/b.pth'))) == 'a/b.pth'
