"""SnapshotHook in real mmengine runs."""

import copy
import hashlib
import json
import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.runner import Runner, load_checkpoint
from mmpretrain.apis import ImageClassificationInferencer, get_model, init_model
from mmpretrain.registry import MODELS as CLASSIFIERS
from mmpretrain.structures import DataSample

from ckd_mm.compat import versions
from ckd_mm.errors import CkdError, ConfigError
from ckd_mm.hooks import SnapshotHook
from ckd_mm.trajectory import Trajectory

from ..conftest import resnet
from ..helpers import DIGITS, assert_same_weights, logged, train, weights_of, with_statistics

LARGER = resnet(3, channels=16)  # where the headers of a file do not count
CHECKPOINTS = dict(default_hooks=dict(checkpoint=dict(max_keep_ckpts=-1)))


def snapshots(**settings) -> dict:
    return dict(custom_hooks=[dict(dict(type='ckd_mm.SnapshotHook'), **settings)])


def files_in(folder) -> dict:
    """Every file of the trajectory with its bytes."""
    paths = [*Path(folder).glob('snapshots/*'), Path(folder) / 'trajectory.json']
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# ---------------------------------------------------------------- when
@pytest.mark.parametrize('schedule, epochs', [(dict(interval=2), [2, 4, 5]), (dict(epochs=[1, 4]), [1, 4])])
def test_truth_table(digits_run, schedule, epochs):
    folder = Path(train(digits_run(epochs=5, images=16, **snapshots(**schedule))).work_dir)
    assert sorted(os.listdir(folder / 'snapshots')) == [f'epoch_{epoch}.pth' for epoch in epochs]
    run = Trajectory.open(folder)
    assert run.times == run.info['snapshot_epochs'] == epochs and run.length == 5
    run.check()


@pytest.mark.parametrize('settings, message', [
    (dict(interval=1, phases=2), 'give exactly one of interval, epochs, iters, phases'),
    (dict(interval=1, ema=1), 'ema=1 should be True or False'),
    (dict(interval=1, overwrite='no'), "overwrite='no' should be True or False")])
def test_bad_settings_are_named_when_it_is_made(settings, message):
    with pytest.raises(ConfigError, match=message):
        SnapshotHook(**settings)


@pytest.mark.parametrize('settings, train_cfg, message', [
    (dict(epochs=[3]), dict(by_epoch=True, max_epochs=2), r'epochs=\[3\] asks for epoch 3, but the run ends '
                                                          'after 2 epochs'),
    (dict(interval=1, ema=True), dict(by_epoch=True, max_epochs=2),
     r"SnapshotHook\(ema=True\) needs averaged weights: add dict\(type='EMAHook'\) to custom_hooks"),
    (dict(epochs=[1]), dict(by_epoch=False, max_iters=4), r'snapshots: epochs=\[1\], but the training counts '
                                                          r'iterations: give iters=\[...\]'),
    (dict(iters=[4]), dict(by_epoch=True, max_epochs=4), r'snapshots: iters=\[4\], but the training counts '
                                                         'epochs')])
def test_settings_the_run_cannot_meet_stop_it_before_the_first_step(digits_run, tmp_path, settings, train_cfg,
                                                                    message):
    config = digits_run(**snapshots(**settings))
    config.train_cfg = train_cfg
    with pytest.raises(ConfigError, match=message):
        train(config)
    assert not list(tmp_path.rglob('*.pth')) and not list(tmp_path.rglob('trajectory.json'))


# ---------------------------------------------------------------- what
def test_manifest_and_files_of_a_run(digits_run):
    """The weights are those of mmengine's checkpoint, with the BatchNorm statistics that PreciseBNHook
    measures anew at the end of an epoch."""
    config = digits_run(**snapshots(interval=1, info=dict(note='mine')), **CHECKPOINTS,
                        param_scheduler=dict(type='MultiStepLR', milestones=[1], gamma=0.1))
    config.custom_hooks.append(dict(type='mmpretrain.PreciseBNHook', num_samples=32))
    folder = Path(train(config).work_dir)
    manifest = json.loads((folder / 'trajectory.json').read_text())
    model, entries = json.loads(json.dumps(with_statistics(resnet()))), manifest.pop('snapshots')
    assert manifest == dict(format='ckd_mm.trajectory/1', model=model, classes=list(DIGITS), max_epochs=2,
                            snapshot_epochs=[1, 2], ema=False, seed=3, versions=versions(), note='mine')
    accuracies = [row['accuracy/top1'] for row in logged(folder, 'accuracy/top1')]
    seconds, weights = [], []
    for entry, epoch, lr, accuracy in zip(entries, (1, 2), (0.05, 0.005), accuracies, strict=True):
        data = (folder / entry['file']).read_bytes()
        assert entry['metrics'].pop('accuracy/top1') == pytest.approx(accuracy)
        assert entry.pop('lr') == pytest.approx(lr)
        seconds.append(entry.pop('seconds'))
        assert entry == dict(epoch=epoch, iteration=4 * epoch, file=f'snapshots/epoch_{epoch}.pth',
                             size=len(data), sha256=hashlib.sha256(data).hexdigest(),
                             metrics=entry['metrics'])
        ours = torch.load(folder / entry['file'], weights_only=True)
        theirs = torch.load(folder / f'epoch_{epoch}.pth', weights_only=False)
        assert set(ours) == {'meta', 'state_dict'}
        assert_same_weights(ours['state_dict'], theirs['state_dict'])
        assert ours['meta']['cfg'] == theirs['meta']['cfg'] and ours['meta']['model'] == model
        assert (ours['meta']['epoch'], ours['meta']['iter'], ours['meta']['seed']) == (epoch, 4 * epoch, 3)
        assert ours['meta']['dataset_meta'] == dict(classes=list(DIGITS))
        weights.append(ours['state_dict']['head.fc.weight'])
    assert 0 < seconds[0] < seconds[1] < 60
    assert not torch.equal(*weights)


def test_the_learning_rate_is_that_of_the_last_iteration(digits_run):
    """With a scheduler that steps after every iteration too: it has set the rate of the next one by then."""
    runner = train(
        digits_run(**snapshots(interval=1), default_hooks=dict(logger=dict(interval=1)),
                   param_scheduler=dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=8)))
    rates = [row['lr'] for row in logged(runner.work_dir, 'lr')]
    assert len(rates) == len(set(rates)) == 8
    assert [snapshot.lr for snapshot in Trajectory.open(runner.work_dir)] == pytest.approx(rates[3::4])


def test_mmpretrains_own_tools_read_a_snapshot(digits_run):
    config = digits_run(epochs=1, **snapshots(interval=1))
    runner = train(config)
    file = f'{runner.work_dir}/snapshots/epoch_1.pth'
    image = runner.val_dataloader.dataset[0]['inputs']
    data = dict(inputs=image[None])
    expected = runner.model.eval().test_step(copy.deepcopy(data))[0].pred_score
    plain = copy.deepcopy(config)
    plain.model.data_preprocessor = config.data_preprocessor
    for load in (get_model, init_model):
        loaded = load(plain, file, device='cpu')
        assert torch.equal(loaded.test_step(copy.deepcopy(data))[0].pred_score, expected)
        assert tuple(loaded._dataset_meta['classes']) == DIGITS
    result, = ImageClassificationInferencer(plain, file, device='cpu')(image.permute(1, 2, 0).numpy())
    assert result['pred_class'] == DIGITS[int(expected.argmax())]
    network = CLASSIFIERS.build(copy.deepcopy(plain.model))
    load_checkpoint(network, file, strict=True)
    assert_same_weights(dict(network.state_dict()), dict(runner.model.state_dict()))


def test_a_snapshot_is_about_half_a_checkpoint(digits_run, tmp_path):
    runner = train(digits_run(epochs=1, images=16, model=LARGER,
                              **snapshots(interval=1, out_dir=str(tmp_path / 'kept'))))
    checkpoint = (Path(runner.work_dir) / 'epoch_1.pth').stat().st_size
    weights = sum(value.nbytes for value in runner.model.state_dict().values())
    assert weights < Trajectory.open(tmp_path / 'kept').last.size <= 0.55 * checkpoint
    assert not (Path(runner.work_dir) / 'trajectory.json').exists()


# ---------------------------------------------------------------- averaged weights
@pytest.mark.parametrize('ema', [True, False])
def test_averaged_weights(digits_run, ema):
    """mmengine validates them and puts them into ``state_dict`` of its checkpoints."""
    config = digits_run(**CHECKPOINTS)
    config.custom_hooks = [dict(type='EMAHook', momentum=0.3),
                           dict(type='ckd_mm.SnapshotHook', interval=1, ema=ema)]
    runner = train(config)
    run = Trajectory.open(runner.work_dir)
    averaged, own = weights_of(f'{runner.work_dir}/epoch_2.pth'), dict(runner.model.state_dict())
    assert not torch.equal(averaged['head.fc.weight'], own['head.fc.weight'])
    assert_same_weights(run.last.state_dict(), averaged if ema else own)
    # of the others that accuracy would be a lie
    assert set(run.last.metrics) >= {'accuracy/top1' if ema else 'ema/accuracy/top1'}
    assert (run.last.accuracy is None) is not ema
    assert run.info['ema'] is ema


# ---------------------------------------------------------------- resume
def test_resume_takes_later_snapshots_again(digits_run):
    """The run got to epoch 3 but is resumed from epoch 1: the snapshots of 2 and 3 are not of the new run."""
    config = digits_run(epochs=3, **snapshots(interval=1), **CHECKPOINTS)
    train(config)
    before, look, kept = files_in(config.work_dir), Hook(), []
    look.before_train_epoch = lambda runner: kept.append(Trajectory.open(runner.work_dir).times)
    config.update(resume=True, load_from=f'{config.work_dir}/epoch_1.pth')
    config.train_cfg.max_epochs = 4
    runner = train(config, look)
    run = Trajectory.open(runner.work_dir)
    assert kept == [[1], [1, 2], [1, 2, 3]] and run.times == [1, 2, 3, 4] and run.length == 4
    assert [snapshot.iteration for snapshot in run] == [4, 8, 12, 16]
    assert all(snapshot.accuracy is not None for snapshot in run)
    run.check()
    assert files_in(config.work_dir)['snapshots/epoch_1.pth'] == before['snapshots/epoch_1.pth']
    assert_same_weights(dict(run.last.build().state_dict()), dict(runner.model.state_dict()))


def test_an_earlier_run_is_not_overwritten(digits_run):
    config = digits_run(epochs=1, **snapshots(interval=1))
    train(config)
    before = files_in(config.work_dir)
    with pytest.raises(ConfigError, match=r'json holds 1 snapshots of an earlier run\. Pass --resume'):
        train(config)
    config.custom_hooks[0].overwrite = True
    another = copy.deepcopy(config)
    another.model = resnet(2)
    with pytest.raises(ConfigError, match=r'trajectory\.json is of another network than the config'):
        train(another)
    assert files_in(config.work_dir) == before
    config.randomness.seed = 4
    train(config)
    assert Trajectory.open(config.work_dir).times == [1]
    assert files_in(config.work_dir)['snapshots/epoch_1.pth'] != before['snapshots/epoch_1.pth']


# ---------------------------------------------------------------- a full disk
class Full(Hook):
    """From epoch 2 on the kernel lets no file grow beyond 400,000 bytes, as on a disk that is full."""
    priority = 'HIGH'

    def after_train_epoch(self, runner) -> None:
        if runner.epoch + 1 == 2:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))


def test_a_full_disk_loses_nothing(digits_run):
    config = digits_run(epochs=3, images=16, model=LARGER, **snapshots(interval=1))
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(CkdError, match=r'write .*/epoch_2\.pth \([\d,]+ bytes\): .*free some space'):
            train(config, Full())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(Path(config.work_dir) / 'snapshots') == ['epoch_1.pth']
    for epochs in ([1], [1, 2, 3]):
        run = Trajectory.open(config.work_dir)
        run.check()
        assert run.times == epochs
        config.resume = True
        train(config)


# ---------------------------------------------------------------- runs of other kinds
class Bare(torch.utils.data.Dataset):
    """A data set of torch, not of mmengine: no metainfo, so no class names."""

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return dict(inputs=torch.full((3, 8, 8), index, dtype=torch.uint8),
                    data_samples=DataSample().set_gt_label(index % 10))


def test_a_data_set_without_class_names(digits_run):
    runner = Runner.from_cfg(digits_run(epochs=1, val_dataloader=None, val_cfg=None, val_evaluator=None,
                                        **snapshots(interval=1)))
    runner._train_dataloader = torch.utils.data.DataLoader(Bare(), batch_size=8, collate_fn=pseudo_collate)
    runner.train()
    run = Trajectory.open(runner.work_dir)
    assert run.last.classes is None and run.last.iteration == 2
    run.last.build()
