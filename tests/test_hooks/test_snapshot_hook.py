"""SnapshotHook in real mmengine runs."""

import copy
import errno
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
from ..helpers import DIGITS, assert_same_weights, train, with_statistics

LARGER = resnet(3, channels=16)  # where the headers of a file do not count
CHECKPOINTS = dict(default_hooks=dict(checkpoint=dict(max_keep_ckpts=-1)))


def snapshots(**settings) -> dict:
    return dict(custom_hooks=[dict(dict(type='ckd_mm.SnapshotHook'), **settings)])


def files_in(folder) -> dict:
    """Every file of the trajectory with its bytes."""
    paths = [
        *Path(folder).glob('snapshots/*'), *Path(folder).glob('snapshots/.*'),
        *Path(folder).glob('*trajectory*')
    ]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# ---------------------------------------------------------------- when
@pytest.mark.parametrize('schedule, epochs', [(dict(interval=2), [2, 4, 5]), (dict(epochs=[1, 4]), [1, 4]),
                                              (dict(phases=2), [3, 5])])
def test_truth_table(digits_run, schedule, epochs):
    runner = train(digits_run(epochs=5, images=16, **snapshots(**schedule)))
    folder = Path(runner.work_dir)
    assert sorted(
        path.name for path in (folder / 'snapshots').iterdir()) == [f'epoch_{epoch}.pth' for epoch in epochs]
    run = Trajectory.open(folder)
    assert run.epochs == epochs and run.max_epochs == 5
    assert json.loads((folder / 'trajectory.json').read_text())['snapshot_epochs'] == epochs
    run.check()


@pytest.mark.parametrize('settings, message', [
    (dict(), 'give exactly one of interval, epochs, phases'),
    (dict(interval=0), 'interval=0'),
])
def test_bad_settings_are_named_when_it_is_made(settings, message):
    with pytest.raises(ConfigError, match=message):
        SnapshotHook(**settings)


@pytest.mark.parametrize('settings, message', [
    (dict(epochs=[3]), r'epochs=\[3\] asks for epoch 3, but the run ends after 2 epochs'),
    (dict(phases=3), r'phases=3 but the run has only 2 epochs'),
    (dict(interval=1, ema=True), r"SnapshotHook\(ema=True\) needs averaged weights: add "
                                 r"dict\(type='EMAHook'\) to custom_hooks"),
])
def test_settings_the_run_cannot_meet_stop_it_before_the_first_step(digits_run, tmp_path, settings, message):
    config = digits_run(**snapshots(**settings))
    with pytest.raises(ConfigError, match=message):
        train(config)
    assert not list(tmp_path.rglob('*.pth')) and not list(tmp_path.rglob('trajectory.json'))


def test_a_run_by_iterations_is_refused(digits_run):
    config = digits_run(**snapshots(interval=1))
    config.train_cfg = dict(by_epoch=False, max_iters=4)
    with pytest.raises(ConfigError, match=r'SnapshotHook counts epochs, but train_cfg makes a '
                                          r'IterBasedTrainLoop'):
        train(config)


# ---------------------------------------------------------------- what
def test_manifest_and_files_of_a_run(digits_run, tmp_path):
    config = digits_run(**snapshots(interval=1, info=dict(note='mine')), **CHECKPOINTS,
                        param_scheduler=dict(type='MultiStepLR', milestones=[1], gamma=0.1))
    runner = train(config)
    folder = Path(runner.work_dir)
    manifest = json.loads((folder / 'trajectory.json').read_text())
    model = json.loads(json.dumps(with_statistics(resnet())))
    assert {
        key: manifest[key]
        for key in manifest if key != 'snapshots'
    } == dict(format='ckd_mm.trajectory/1', model=model, classes=list(DIGITS), max_epochs=2,
              snapshot_epochs=[1, 2], ema=False, seed=3, versions=versions(), note='mine')
    log = [json.loads(line) for line in next(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    accuracies = [line['accuracy/top1'] for line in log if 'accuracy/top1' in line]
    assert len(accuracies) == 2
    seconds = []
    for entry, epoch, lr, accuracy in zip(manifest['snapshots'], (1, 2), (0.05, 0.005), accuracies):
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
    assert 0 < seconds[0] < seconds[1] < 60
    first, second = (torch.load(folder / entry['file'], weights_only=True)['state_dict']
                     for entry in manifest['snapshots'])
    assert not torch.equal(first['head.fc.weight'], second['head.fc.weight'])


def test_the_learning_rate_is_that_of_the_last_iteration(digits_run):
    """With a scheduler that steps after every iteration too: it has set the rate of the next one by then."""
    runner = train(
        digits_run(**snapshots(interval=1), default_hooks=dict(logger=dict(interval=1)),
                   param_scheduler=dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=8)))
    lines = next(Path(runner.work_dir).glob('*/vis_data/scalars.json')).read_text().splitlines()
    rates = [line['lr'] for line in map(json.loads, lines) if 'lr' in line]
    assert len(rates) == len(set(rates)) == 8
    assert [snapshot.lr for snapshot in Trajectory.open(runner.work_dir)] == pytest.approx(
        [rates[3], rates[7]])


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


def test_a_snapshot_is_about_half_a_checkpoint(digits_run):
    runner = train(digits_run(epochs=1, images=16, model=LARGER, **snapshots(interval=1)))
    folder = Path(runner.work_dir)
    ours, theirs = (folder / 'snapshots' / 'epoch_1.pth').stat().st_size, (folder /
                                                                           'epoch_1.pth').stat().st_size
    weights = sum(value.numel() * value.element_size() for value in runner.model.state_dict().values())
    assert weights < ours <= 0.55 * theirs


def test_out_dir(digits_run, tmp_path):
    runner = train(digits_run(epochs=1, **snapshots(interval=1, out_dir=str(tmp_path / 'kept'))))
    assert Trajectory.open(tmp_path / 'kept').epochs == [1]
    assert not (Path(runner.work_dir) / 'trajectory.json').exists()


def test_the_student_of_a_distillation_leaves_plain_snapshots(digits_run, tmp_path):
    """So that it can teach the next generation."""
    train(digits_run(epochs=1, work_dir=tmp_path / 'teacher', **snapshots(interval=1)))
    config = digits_run(epochs=1, work_dir=tmp_path / 'student', **snapshots(interval=1))
    config.model = dict(type='ckd_mm.CheckpointDistill', student=resnet(2),
                        cohort=dict(type='ckd_mm.SnapshotEnsemble',
                                    snapshots=[dict(trajectory=str(tmp_path / 'teacher'))]))
    runner = train(config)
    student = Trajectory.open(tmp_path / 'student').last
    assert student.model == json.loads(json.dumps(with_statistics(resnet(2))))
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(student.build()(images), runner.model.eval()(images))


# ---------------------------------------------------------------- averaged weights
class AverageByHand(Hook):
    """What EMAHook(momentum=0.3) should have, from the formula: a <- 0.7 a + 0.3 w, the first time a = w."""

    def __init__(self) -> None:
        self.average = None

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        now = {name: value.detach().double().clone() for name, value in runner.model.named_parameters()}
        self.average = now if self.average is None else {
            name: 0.7 * self.average[name] + 0.3 * now[name]
            for name in now
        }


@pytest.mark.parametrize('ema', [True, False])
def test_averaged_weights(digits_run, ema):
    by_hand = AverageByHand()
    config = digits_run(**CHECKPOINTS)
    config.custom_hooks = [
        dict(type='EMAHook', momentum=0.3), dict(type='ckd_mm.SnapshotHook', interval=1, ema=ema)
    ]
    runner = train(config, by_hand)
    run = Trajectory.open(runner.work_dir)
    state = run.last.build().state_dict()
    own = dict(runner.model.named_parameters())
    expected = by_hand.average if ema else {name: value.detach().double() for name, value in own.items()}
    for name in own:
        torch.testing.assert_close(state[name].double(), expected[name], rtol=1e-5, atol=1e-6)
    assert torch.equal(state['head.fc.weight'], own['head.fc.weight']) is not ema
    # mmengine validates the averaged weights: of the others that accuracy would be a lie
    assert set(run.last.metrics) >= {'accuracy/top1' if ema else 'ema/accuracy/top1'}
    assert (run.last.accuracy is None) is not ema
    assert run.info['ema'] is ema


# ---------------------------------------------------------------- resume
def test_resume_continues_the_manifest(digits_run):
    """Killed in epoch 3 and resumed equals unbroken; nothing that is kept is written again."""
    config = digits_run(epochs=2, **snapshots(interval=1))
    train(config)
    before = files_in(config.work_dir)
    config.resume = True
    config.train_cfg.max_epochs = 3
    runner = train(config)
    run = Trajectory.open(runner.work_dir)
    assert run.epochs == [1, 2, 3] and run.max_epochs == 3
    assert [snapshot.iteration for snapshot in run] == [4, 8, 12]
    assert all(snapshot.accuracy is not None for snapshot in run)
    run.check()
    after = files_in(config.work_dir)
    assert all(after[name] == before[name] for name in ('snapshots/epoch_1.pth', 'snapshots/epoch_2.pth'))


def test_resume_takes_later_snapshots_again(digits_run):
    """The run got to epoch 3 but is resumed from epoch 1: the snapshots of 2 and 3 are not of the new run."""
    config = digits_run(epochs=3, **snapshots(interval=1), **CHECKPOINTS)
    train(config)
    seen = []

    class Look(Hook):
        priority = 'LOWEST'

        def before_train(self, runner):
            seen.append(Trajectory.open(runner.work_dir).epochs)

    config.update(resume=True, load_from=f'{config.work_dir}/epoch_1.pth')
    runner = train(config, Look())
    assert seen == [[1]]
    run = Trajectory.open(runner.work_dir)
    assert run.epochs == [1, 2, 3]
    run.check()
    assert_same_weights(dict(run.last.build().state_dict()), dict(runner.model.state_dict()))


def test_an_earlier_run_is_not_overwritten(digits_run):
    config = digits_run(epochs=1, **snapshots(interval=1))
    train(config)
    before = files_in(config.work_dir)
    with pytest.raises(ConfigError, match=rf'{config.work_dir}/trajectory\.json holds 1 snapshots of an '
                                          r'earlier run\. Pass --resume'):
        train(config)
    assert files_in(config.work_dir) == before
    config.custom_hooks[0].overwrite = True
    config.randomness.seed = 4
    train(config)
    assert Trajectory.open(config.work_dir).epochs == [1]
    assert files_in(config.work_dir)['snapshots/epoch_1.pth'] != before['snapshots/epoch_1.pth']


def test_another_network_is_not_mixed_in(digits_run):
    config = digits_run(epochs=1, **snapshots(interval=1))
    train(config)
    before = files_in(config.work_dir)
    config.model = resnet(2)
    config.custom_hooks[0].overwrite = True
    with pytest.raises(ConfigError, match=r'trajectory\.json is of another network than the config'):
        train(config)
    assert files_in(config.work_dir) == before


# ---------------------------------------------------------------- a full disk
class Full(Hook):
    """From epoch 2 on no file may grow beyond ``limit`` bytes, as on a disk that is full (the kernel refuses
    the write)."""

    priority = 'HIGH'

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def after_train_epoch(self, runner) -> None:
        if runner.epoch + 1 == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE,
                               (self.limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.fixture
def restored_limit():
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_loses_nothing(digits_run, restored_limit):
    """Without a checkpoint in that epoch: mmengine's own would be the first to find no room."""
    config = digits_run(epochs=3, images=16, model=LARGER, **snapshots(interval=1),
                        default_hooks=dict(checkpoint=dict(interval=2, save_begin=1)))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(CkdError, match=r'cannot write .*/snapshots/epoch_2\.pth \([\d,]+ bytes\): .*written '
                                       r'before it is intact'):
        train(config, Full(400_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    folder = Path(config.work_dir)
    assert sorted(path.name for path in (folder / 'snapshots').iterdir()) == ['epoch_1.pth']
    run = Trajectory.open(folder)
    assert run.epochs == [1]
    run.check()
    config.resume = True
    train(config)
    run = Trajectory.open(folder)
    run.check()
    assert run.epochs == [1, 2, 3]


@pytest.mark.parametrize('epoch', [1, 2])
def test_a_manifest_that_cannot_be_written_is_still_the_old_one(digits_run, monkeypatch, epoch):
    """No room for the few bytes of the manifest: the error is the same, and the manifest is whole."""
    config = digits_run(epochs=2, **snapshots(interval=1))
    replace = os.replace

    def full(source, target):
        if str(target).endswith('trajectory.json') and (Path(config.work_dir) / 'snapshots' /
                                                        f'epoch_{epoch}.pth').exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(CkdError, match=r'cannot write .*/trajectory\.json .*No space left on device'):
        train(config)
    manifest = json.loads((Path(config.work_dir) / 'trajectory.json').read_text())
    assert [entry['epoch'] for entry in manifest['snapshots']] == list(range(1, epoch))
    assert not list(Path(config.work_dir).rglob('.*.tmp'))


# ---------------------------------------------------------------- runs of other kinds
class Bare(torch.utils.data.Dataset):
    """A data set of torch, not of mmengine: no metainfo, so no class names."""

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return dict(inputs=torch.full((3, 8, 8), index, dtype=torch.uint8),
                    data_samples=DataSample().set_gt_label(index % 10))


def test_a_data_set_without_class_names(digits_run):
    config = digits_run(epochs=1, val_dataloader=None, val_cfg=None, val_evaluator=None,
                        **snapshots(interval=1))
    loader = torch.utils.data.DataLoader(Bare(), batch_size=8, collate_fn=pseudo_collate)
    runner = Runner.from_cfg(config)
    runner._train_dataloader = loader
    runner.train()
    run = Trajectory.open(runner.work_dir)
    assert run.last.classes is None and run.last.iteration == 2
    run.last.build()
