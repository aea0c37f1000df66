import copy
import struct

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, MODELS, TRANSFORMS
from PIL import Image

from ckd_mm.data import decoded
from ckd_mm.errors import ConfigError
from ckd_mm.infoplane import load_probe_images
from ckd_mm.infoplane.images import probe_dataset
from ckd_mm.pipeline.runner import CheckpointDistillRunner

from ..helpers import StepLog, assert_same_weights, train, weights_of

AUGMENTED = [
    dict(type='RandomCrop', crop_size=8, padding=1), dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs')
]
PLAIN = [dict(type='PackInputs')]
DIGITS = dict(type='ckd_mm.Digits', split='train', indices=40, pipeline=AUGMENTED)


def in_memory(dataset=None, pipeline=None, **settings):
    dataset = dict(dataset or DIGITS)
    return dict(type='ckd_mm.InMemory', dataset=dict(dataset, pipeline=pipeline) if pipeline else dataset,
                **settings)


def build(config):
    return DATASETS.build(copy.deepcopy(config))


def loader(dataset, batch: int = 16, workers: int = 0, collate: str = 'default_collate',
           sampler: str = 'DefaultSampler', shuffle=True):
    return Runner.build_dataloader(dict(batch_size=batch, num_workers=workers, persistent_workers=False,
                                        sampler=dict(type=sampler, shuffle=shuffle),
                                        collate_fn=dict(type=collate), dataset=copy.deepcopy(dataset)),
                                   seed=0)


@pytest.fixture(autouse=True)
def nothing_decoded(monkeypatch):
    monkeypatch.setattr(decoded, '_decoded', type(decoded._decoded)())


@pytest.fixture
def folder(tmp_path):
    """A data set of 20 files of 12x9 pixels (height x width)."""
    images = np.random.default_rng(0).integers(0, 256, (20, 12, 9, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        path = tmp_path / f'{"ab"[index % 2]}' / f'{index}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return dict(type='CustomDataset', data_root=str(tmp_path),
                pipeline=[dict(type='LoadImageFromFile'), *PLAIN])


def assert_same_items(left, right) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right):
        assert one['inputs'].dtype == torch.uint8 and torch.equal(one['inputs'], other['inputs'])
        assert one['inputs'].is_contiguous()
        for name in ('gt_label', 'sample_idx'):
            assert one['data_samples'].get(name) == other['data_samples'].get(name), name


# ------------------------------------------------------------ the images of the data set
@pytest.mark.parametrize('pipeline', [
    PLAIN, [dict(type='ResizeEdge', scale=6, edge='short'), dict(type='CenterCrop', crop_size=5), *PLAIN],
    [dict(type='Resize', scale=(7, 11)), *PLAIN],
], ids=str)
def test_without_augmentation_it_is_the_data_set_itself(pipeline, folder):
    for dataset in (dict(DIGITS, pipeline=pipeline), dict(folder,
                                                  pipeline=[dict(type='LoadImageFromFile'), *pipeline])):
        plain, ours = build(dataset), build(in_memory(dataset))
        assert_same_items(list(ours), [plain[index] for index in range(len(plain))])
        assert_same_items([ours[-1]], [plain[len(plain) - 1]])
        assert ours.metainfo == plain.metainfo and ours.CLASSES == plain.CLASSES
        assert ours.get_data_info(3)['gt_label'] == plain.get_data_info(3)['gt_label']


def test_data_samples_are_those_of_mmpretrain(folder):
    sample = build(in_memory(folder))[3]['data_samples']
    assert sample.keys() == ['gt_label'] and sample.metainfo_keys() == ['sample_idx'
                                                                        ]  # no view: it cannot be replayed
    assert sample.gt_label.tolist() == [0] and sample.gt_label.dtype == torch.int64
    again = sample.clone().set_gt_label(1).set_pred_score(torch.ones(2))
    assert sample.gt_label.tolist() == [0] and again.gt_label.tolist() == [1] and again.num_classes == 2
    assert 'pred_score' not in build(in_memory(folder))[3]['data_samples']


@pytest.mark.parametrize('collate, as_of', [('default_collate', 'default_collate'),
                                            ('pseudo_collate', 'pseudo_collate'),
                                            ('ckd_mm.whole_batch', 'default_collate')])
@pytest.mark.parametrize('workers', [0, 2])
def test_a_loader_gives_the_same_batches(collate, as_of, workers):
    plain = loader(dict(DIGITS, pipeline=PLAIN), workers=workers, collate=as_of)
    ours = loader(in_memory(pipeline=PLAIN), workers=workers, collate=collate)
    batches = list(zip(plain, ours, strict=True))
    assert len(batches) == 3
    for expected, batch in batches:
        assert type(batch) is type(expected) and all(
            type(batch[key]) is type(expected[key]) for key in expected)
        assert all(torch.equal(*pair) for pair in zip(expected['inputs'], batch['inputs'], strict=True))
        assert [sample.gt_label for sample in batch['data_samples']] == [
            sample.gt_label for sample in expected['data_samples']
        ]


def test_other_data_sets_are_collated_as_before():
    plain = dict(DIGITS, pipeline=PLAIN)
    for expected, batch in zip(loader(plain), loader(plain, collate='ckd_mm.whole_batch'), strict=True):
        assert torch.equal(batch['inputs'], expected['inputs']) and len(batch['data_samples']) == len(
            expected['data_samples'])


def test_a_step_trains_the_same(digits_run):
    plain, ours, logs = digits_run(), digits_run(), [StepLog(), StepLog()]
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        ours[name].dataset = dict(type='ckd_mm.InMemory', dataset=ours[name].dataset)
        ours[name].collate_fn = dict(type='ckd_mm.whole_batch')
    assert_same_weights(train(plain, logs[0]).model.state_dict(), train(ours, logs[1]).model.state_dict())
    assert len(logs[0].steps) == 8 and logs[0].steps == logs[1].steps


@pytest.mark.parametrize('kind', ['MNIST', 'FashionMNIST'])
def test_grey_images_of_mmpretrain(kind, tmp_path):
    """Their labels are arrays of no dimension."""
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 4), dtype=np.uint8)
    for part in ('train', 't10k'):
        (tmp_path /
         f'{part}-images-idx3-ubyte').write_bytes(struct.pack('>4i', 2051, *images.shape) + images.tobytes())
        (tmp_path /
         f'{part}-labels-idx1-ubyte').write_bytes(struct.pack('>2i', 2049, 7) + bytes([3, 1, 4, 1, 5, 9, 2]))
    items = list(build(in_memory(dict(type=kind, data_root=str(tmp_path), pipeline=PLAIN))))
    assert [item['data_samples'].gt_label.tolist() for item in items] == [[3], [1], [4], [1], [5], [9], [2]]
    assert torch.equal(torch.stack([item['inputs'] for item in items]), torch.from_numpy(images)[:, None])


# ------------------------------------------------------------ augmented
def test_drawn_from_the_generator_of_torch():
    """What is restored when a run is resumed; other generators do not matter, nor do batches without
    augmentation draw."""
    dataset, plain = build(in_memory()), build(in_memory(pipeline=PLAIN))
    images = list(range(40))
    torch.manual_seed(5)
    first, second = dataset.__getitems__(images), dataset.__getitems__(images)
    torch.manual_seed(5)
    np.random.seed(1)
    plain.__getitems__(images)
    assert_same_items(dataset.__getitems__(images), first)
    assert sum(not torch.equal(one['inputs'], other['inputs']) for one, other in zip(first, second)) > 30


def test_processes_augment_differently(monkeypatch):
    """mmengine seeds all processes of a run alike; their generators stay in step, whatever the sizes of their
    batches."""
    dataset, seen, afterwards = build(in_memory()), {}, []
    for rank in (0, 1, 0, 2):
        monkeypatch.setattr('ckd_mm.data.in_memory.get_rank', lambda rank=rank: rank)
        torch.manual_seed(5)
        dataset.__getitems__([0, 1, 2][:rank + 1])
        batch = dataset.__getitems__(list(range(40)))
        afterwards.append(torch.rand(1).item())
        if rank in seen:
            assert_same_items(batch, seen[rank])
        seen[rank] = batch
    for one, other in ((0, 1), (0, 2), (1, 2)):  # of 18 pictures
        assert sum(
            not torch.equal(*(item['inputs'] for item in pair)) for pair in zip(seen[one], seen[other])) > 25
    assert len(set(afterwards)) == 1


def test_an_image_that_is_drawn_twice():
    """As a weighted sampler does: it is not augmented in the same way."""
    batch = build(in_memory()).__getitems__([7] * 40)
    assert len({item['inputs'].numpy().tobytes() for item in batch}) > 9


def test_images_by_themselves_are_augmented_like_batches():
    """Crops and flips of one image, one at a time and together: the same few pictures."""
    dataset = build(in_memory())
    torch.manual_seed(0)
    alone = {dataset[7]['inputs'].numpy().tobytes() for _ in range(400)}
    together = {item['inputs'].numpy().tobytes() for item in dataset.__getitems__([7] * 400)}
    real = build(DIGITS)
    np.random.seed(0)
    expected = {real[7]['inputs'].numpy().tobytes() for _ in range(400)}
    assert len(expected) == 18 and alone == together == expected


def test_mixup_of_the_data_preprocessor(monkeypatch):
    batch = next(iter(loader(in_memory())))
    images, one_hot = batch['inputs'].float(), torch.eye(10)[torch.cat(
        [sample.gt_label for sample in batch['data_samples']])]
    mixup = dict(augments=dict(type='Mixup', alpha=1.))
    preprocessor = MODELS.build(dict(type='ClsDataPreprocessor', num_classes=10, batch_augments=mixup))
    monkeypatch.setattr(np.random, 'beta', lambda *alpha: 0.25)
    monkeypatch.setattr(torch, 'randperm', lambda count: torch.arange(count).roll(1))
    done = preprocessor(batch, training=True)
    assert torch.allclose(done['inputs'], 0.25 * images + 0.75 * images.roll(1, 0))
    assert torch.allclose(torch.stack([sample.gt_score for sample in done['data_samples']]),
                          0.25 * one_hot + 0.75 * one_hot.roll(1, 0))


# ------------------------------------------------------------ parts, and the stages of a run
def split(dataset, part: str) -> dict:
    return dict(type='ckd_mm.split_dataset', dataset=dataset, part=part, held_out=10, seed=1)


@pytest.mark.parametrize('part, count', [('rest', 30), ('held_out', 10)])
def test_parts_are_those_of_the_data_set(part, count):
    plain = dict(DIGITS, pipeline=PLAIN)
    expected = build(split(plain, part))
    items = [expected[index] for index in range(count)]
    for config in (split(in_memory(plain), part), in_memory(split(plain, part))):
        assert_same_items(list(build(config)), items)


@pytest.mark.parametrize('indices', [5, -5, [3, 1, 30], (0, )])
def test_subsets_are_those_of_mmengine(indices):
    ours = build(in_memory(pipeline=PLAIN))
    expected = build(dict(DIGITS, pipeline=PLAIN)).get_subset(indices)
    part = ours.get_subset(indices)
    assert_same_items(list(part), [expected[index] for index in range(len(expected))])
    assert len(ours) == 40 and part.images is ours.images
    plain, ours = build(dict(DIGITS, pipeline=PLAIN)), build(in_memory(pipeline=PLAIN))
    plain.get_subset_(indices), ours.get_subset_(indices)
    assert_same_items(list(ours), [plain[index] for index in range(len(plain))])
    plain.get_subset_([2, 0] if len(plain) > 2 else [0]), ours.get_subset_([2, 0] if len(ours) > 2 else [0])
    assert_same_items(list(ours), [plain[index] for index in range(len(plain))])


def test_stages_share_what_is_decoded(folder, monkeypatch):
    reads, kind = [], TRANSFORMS.get('LoadImageFromFile')
    load = kind.transform
    monkeypatch.setattr(kind, 'transform',
                        lambda self, item: reads.append(item['img_path']) or load(self, item))
    augmented = in_memory(
        folder, pipeline=[dict(type='LoadImageFromFile'), dict(type='RandomCrop', crop_size=8), *PLAIN])
    build(augmented)[0]
    assert len(reads) == 1  # no more than what is asked for
    build(split(augmented, 'rest')).full_init()
    assert len(set(reads)) == len(reads) <= 11
    loader(augmented)
    held_out = list(build(split(in_memory(folder), 'held_out')))  # another pipeline that begins with the same
    assert len(set(reads)) == len(reads) == 20 and len(held_out) == 10
    plain = build(split(folder, 'held_out'))
    assert_same_items(held_out, [plain[index] for index in range(10)])


def test_settings_of_the_data_set(digits_run):
    """Command lines that were written for the data set alone still mean the same."""
    config = digits_run()
    config.train_dataloader.dataset = split(in_memory(), 'rest')
    config.merge_from_dict({
        'train_dataloader.dataset.dataset.indices': 30, 'train_dataloader.dataset.dataset.split': 'test'
    })
    expected = build(split(dict(DIGITS, indices=30, split='test'), 'rest'))
    ours = build(config.train_dataloader.dataset)
    assert [item['data_samples'].gt_label
            for item in ours] == [expected[index]['data_samples'].gt_label for index in range(20)]
    config.train_dataloader.dataset.dataset.pipeline = AUGMENTED  # that of the probe counts there
    shown = load_probe_images(probe_dataset(config, 'held_out', 10, 0))
    config.train_dataloader.dataset = split(dict(DIGITS, indices=30, split='test'), 'rest')
    assert torch.equal(shown.pixels, load_probe_images(probe_dataset(config, 'held_out', 10, 0)).pixels)
    with pytest.raises(TypeError, match='devise'):
        build(in_memory(devise='cuda'))


def test_changes_of_the_pipeline(digits_run):
    """As a command line writes them, of the data set that had the pipeline before."""
    config = digits_run()
    config.train_dataloader.dataset = split(in_memory(), 'rest')
    config.merge_from_dict({'train_dataloader.dataset.dataset.pipeline.0.padding': 2,
                            'train_dataloader.dataset.dataset.pipeline.1.direction': 'vertical'})
    steps = build(config.train_dataloader.dataset)._random
    assert [(step.padding, step.crop_size)
            for step in steps[:1]] == [(2, (8, 8))] and steps[1].direction == 'vertical'
    config.train_dataloader.dataset.dataset.pipeline = AUGMENTED[1:]
    assert [type(step).__name__ for step in build(config.train_dataloader.dataset)._random] == ['RandomFlip']
    assert DIGITS['pipeline'] is AUGMENTED and AUGMENTED[0]['padding'] == 1


@pytest.mark.parametrize('changes', [{
    '3': dict(prob=1)
}, {
    'flip': dict(prob=1)
}, {
    '0': 'RandomFlip'
}, {
    '0': None
}], ids=str)
def test_changes_of_transforms_that_are_not_there(changes):
    with pytest.raises(ConfigError, match=r'pipeline=\{.*0: RandomCrop, 1: RandomFlip, 2: '
                                          r'PackInputs.*dataset.dataset.pipeline.0'):
        build(dict(type='ckd_mm.InMemory', dataset=DIGITS, pipeline=changes))


def test_wrappers_of_mmengine():
    """They ask one image at a time, or its class."""
    repeated = build(dict(type='RepeatDataset', times=2, dataset=in_memory(pipeline=PLAIN)))
    assert_same_items([repeated[45]], [build(in_memory(pipeline=PLAIN))[5]])
    digits = dict(DIGITS, pipeline=PLAIN)
    plain = build(dict(type='ClassBalancedDataset', oversample_thr=0.2, dataset=digits))
    for kind in ('ckd_mm.InMemory', 'ckd_mm.Views'):
        balanced = build(
            dict(type='ClassBalancedDataset', oversample_thr=0.2, dataset=dict(type=kind, dataset=digits)))
        assert balanced.repeat_indices == plain.repeat_indices and len(balanced) > 40
        assert torch.equal(balanced[len(balanced) - 1]['inputs'], plain[len(plain) - 1]['inputs'])


@pytest.mark.parametrize('kind', ['ckd_mm.InMemory', 'ckd_mm.Views'])
def test_folds_of_mmpretrain(kind):
    fold, digits = dict(type='KFoldDataset', fold=1, num_splits=4, seed=0), dict(DIGITS, pipeline=PLAIN)
    plain, ours = build(dict(fold, dataset=digits)), build(dict(fold, dataset=dict(type=kind,
                                                                                   dataset=digits)))
    assert len(ours) == 30 and type(ours.dataset).__name__ == kind[7:]
    assert_same_items([ours[index] for index in range(30)], [plain[index] for index in range(30)])
    assert ours.get_gt_labels().tolist() == plain.get_gt_labels().tolist()


@pytest.mark.parametrize('kind', ['ckd_mm.InMemory', 'ckd_mm.Views'])
def test_labels_and_classes(kind):
    """Which ``SetAdaptiveMarginsHook`` and ``ClassNumCheckHook`` ask for."""
    labels, ours = build(DIGITS).get_gt_labels().tolist(), build(dict(type=kind, dataset=DIGITS))
    assert ours.get_gt_labels().tolist() == labels and labels[:10] == list(range(10))
    assert list(ours.CLASSES) == list('0123456789')
    ours.get_subset_([7, 2])
    assert ours.get_gt_labels().tolist() == [7, 2]


SWITCHED = dict(type='SwitchRecipeHook', schedule=[
                    dict(action_epoch=2, train_pipeline=[dict(type='RandomFlip', prob=1.),
                                         dict(type='PackInputs')]), dict(action_epoch=3, train_pipeline=[
                             dict(type='Resize', scale=(6, 5)), dict(type='RandomFlip', prob=1.),
                             dict(type='PackInputs')
                         ]), ])


@pytest.mark.parametrize('kind, workers', [('ckd_mm.InMemory', 0), ('ckd_mm.InMemory', 2),
                                           ('ckd_mm.Views', 0)])
def test_hooks_of_mmpretrain(kind, workers, digits_run):
    """They ask for the classes, and change the pipeline in the middle of a training: transforms that are done
    once, too."""
    hooks = [SWITCHED, dict(type='ClassNumCheckHook')]
    plain, ours, logs = digits_run(epochs=3, custom_hooks=hooks), digits_run(
        epochs=3, custom_hooks=hooks), [StepLog(), StepLog()]
    loader = ours.train_dataloader
    loader.dataset, loader.num_workers, loader.persistent_workers = dict(
        type=kind, dataset=loader.dataset), workers, workers > 0
    switched = train(ours, logs[1])
    assert_same_weights(train(plain, logs[0]).model.state_dict(), switched.model.state_dict())
    assert len(logs[0].steps) == 12 and logs[0].steps == logs[1].steps
    assert switched.train_dataloader.dataset[0]['inputs'].shape == (3, 5, 6)


def test_another_pipeline():
    dataset = build(in_memory())
    other = dataset.get_subset([7, 2])
    assert [type(step).__name__
            for step in dataset.pipeline.transforms] == ['RandomCrop', 'RandomFlip', 'PackInputs']
    dataset.pipeline = [dict(type='CenterCrop', crop_size=4), dict(type='PackInputs')]
    plain = build(dict(DIGITS, pipeline=[dict(type='CenterCrop', crop_size=4), dict(type='PackInputs')]))
    assert_same_items(list(dataset), [plain[index] for index in range(40)])
    assert [item['inputs'].shape for item in other] == [(3, 8, 8)] * 2
    other.pipeline = dataset.pipeline
    assert torch.equal(other[1]['inputs'], plain[2]['inputs']) and other.images is dataset.images
    with pytest.raises(ConfigError, match='ColorJitter, number 0 of the pipeline'):
        dataset.pipeline = [dict(type='ColorJitter'), dict(type='PackInputs')]
    assert_same_items(list(dataset), [plain[index] for index in range(40)])  # as before


def test_pipelines_that_look_at_single_images():
    """mmpretrain's browse_dataset.py puts one of its own."""
    class InspectCompose(Compose):
        """Keeps what is between the transforms."""

    dataset = build(in_memory())
    with pytest.raises(ConfigError, match='pipeline=InspectCompose would be shown one image at a time.*leave '
                                          'InMemory out, with'):
        dataset.pipeline = InspectCompose(dataset.pipeline.transforms)


def test_an_image_that_is_drawn_often_is_decoded_once():
    read, dataset = [], build(in_memory(pipeline=PLAIN))
    real = dataset.images.dataset.pipeline
    dataset.images.dataset.pipeline = lambda item: read.append(item['sample_idx']) or real(item)
    dataset.__getitems__([7, 3, 7, 7, 3])
    assert sorted(read) == [3, 7]


def test_few_are_kept():
    for size in range(5, 12):
        build(in_memory(pipeline=[dict(type='Resize', scale=(size, size)), *PLAIN]))
    assert len(decoded._decoded) == decoded.KEPT == 4


def test_probed(digits_run):
    """The held-out part is looked at without augmentation, and is what it would be without InMemory."""
    config = digits_run()
    config.train_dataloader.dataset = DIGITS
    plain = load_probe_images(probe_dataset(config, 'held_out', 10, 0))
    for training in (in_memory(), dict(type='ckd_mm.Views', dataset=DIGITS, seed=0)):
        config.train_dataloader.dataset = training
        images = load_probe_images(probe_dataset(config, 'held_out', 10, 0))
        assert torch.equal(images.pixels, plain.pixels) and torch.equal(images.labels, plain.labels)
    shown = []
    for training in (split(DIGITS, 'rest'), in_memory(split(DIGITS, 'rest')), split(in_memory(), 'rest')):
        config.train_dataloader.dataset = training
        shown.append(load_probe_images(probe_dataset(config, 'held_out', 10, 0)).pixels)
    assert torch.equal(shown[0], shown[1]) and torch.equal(shown[0], shown[2])


class Killed(Exception):
    pass


class KilledInTheMiddle(Hook):
    """Ends the process, as it were, after the second of the teacher's three epochs; once."""
    priority = 'LOWEST'
    is_armed = False

    def after_train_epoch(self, runner) -> None:
        if self.is_armed and runner.epoch == 1:
            type(self).is_armed = False
            raise Killed


def test_whole_method(distil_run, tmp_path):
    """Killed in the middle of the teacher's training it ends like an unbroken run, though nothing but torch's
    generator knows how the images are augmented."""

    def run(name: str, **settings) -> None:
        config = distil_run(work_dir=tmp_path / name, custom_hooks=[dict(type=KilledInTheMiddle)], **settings)
        for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            config[loader].dataset = dict(type='ckd_mm.InMemory', dataset=dict(config[loader].dataset))
        config.train_dataloader.dataset.dataset.pipeline = AUGMENTED
        CheckpointDistillRunner.from_cfg(config).train()

    run('unbroken')
    KilledInTheMiddle.is_armed = True
    with pytest.raises(Killed):
        run('broken')
    assert not (tmp_path / 'broken' / 'student.pth').exists()
    run('broken', resume=True)
    assert_same_weights(*(weights_of(tmp_path / name / 'student.pth') for name in ('unbroken', 'broken')))


# ------------------------------------------------------------ devices
def test_host_memory_by_name():
    named, default = build(in_memory(pipeline=PLAIN, device='cpu')), build(in_memory(pipeline=PLAIN))
    assert_same_items(list(named), list(default))


def test_images_and_augmentation_are_on_the_device():
    """On torch's device without values: every operation on pixels must have happened there, or it would
    complain."""
    of = loader(in_memory(device='meta'))
    batch = next(iter(of))
    assert batch['inputs'].device.type == 'meta' and batch['inputs'].shape == (16, 3, 8, 8)
    assert batch['data_samples'][0].gt_label.device.type == 'cpu'
    of.dataset.pipeline = [dict(type='CenterCrop', crop_size=6), *AUGMENTED[1:]]
    assert of.dataset.get_subset(5)[4]['inputs'].shape == next(iter(of))['inputs'].shape[1:] == (3, 6, 6)


def test_worker_processes_have_no_device():
    with pytest.raises(ConfigError, match="device='meta' the images are on the device.*num_workers=0"):
        next(iter(loader(in_memory(device='meta'), workers=1)))


@pytest.mark.skipif(torch.cuda.is_available(), reason='needs a machine without a GPU')
def test_no_such_device():
    with pytest.raises(ConfigError, match="device='cuda', but torch sees no GPU here; leave device out"):
        build(in_memory(device='cuda'))
    with pytest.raises(ConfigError, match="device='gpu' should be 'cuda'"):
        build(in_memory(device='gpu'))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_the_same_images_on_a_gpu():
    datasets = [build(in_memory(seed=0, device=device)) for device in (None, 'cuda')]
    for dataset in datasets:
        dataset.replay(0)
    host, device = ([item['inputs'] for item in dataset.__getitems__(list(range(80)))]
                    for dataset in datasets)
    assert all(image.is_cuda and torch.equal(image.cpu(), expected) for image, expected in zip(device, host))


# ------------------------------------------------------------ what it cannot do
CROP, FLIP, PACK = AUGMENTED


@pytest.mark.parametrize(
    'pipeline, message', [
        ([CROP, dict(type='ColorJitter'), PACK], 'ColorJitter, number 1 of the pipeline.*of RandomCrop, '
                                                 'RandomFlip, and.*Or leave InMemory out, with num_workers=4 '
                                                 'and persistent_workers=True'),
        ([CROP, dict(type='CenterCrop', crop_size=4), PACK
          ], 'CenterCrop, number 1'),  # known, but not after a random one
        ([dict(type='RandomResizedCrop', scale=8), PACK], 'RandomResizedCrop, number 0'),
        ([CROP, dict(type='RandomErasing'), PACK],
         'RandomErasing, number 1 of the pipeline, cannot be done a batch at a time'),
        ([dict(type='Cutout', shape=3), PACK], 'Cutout, number 0'),
        ([PACK, CROP], 'PackInputs, number 0'), ([CROP], 'does not end with PackInputs'),
        ([], 'does not end with PackInputs'),
        ([dict(type='PackInputs', algorithm_keys=('boxes', ))], r"PackInputs\(.*boxes.*is not known here"),
        ([dict(type='PackInputs', meta_keys=('img_path', ))], r'PackInputs\(.*is not known here'),
    ], ids=str)
def test_other_pipelines_are_refused(pipeline, message):
    with pytest.raises(ConfigError, match=message):
        build(dict(type='ckd_mm.InMemory', dataset=dict(DIGITS, pipeline=pipeline)))[0]


@pytest.mark.parametrize('dataset, message', [
    (dict(type='RepeatDataset', times=2, dataset=DIGITS),
     r'type RepeatDataset has no pipeline of its own \(.*one image at a time\); leave InMemory out, with '
     r'num_workers=4'),
    (in_memory(), 'its data set is a ckd_mm.InMemory'),
    (split(dict(type='ckd_mm.Views', dataset=DIGITS), 'rest'), 'its data set is a ckd_mm.Views'),
    ('Digits', 'dataset=str should be the config'),
], ids=str)
def test_other_data_sets_are_refused(dataset, message):
    with pytest.raises(ConfigError, match=message):
        build(dict(type='ckd_mm.InMemory', dataset=dataset))


def test_images_of_two_sizes(folder, tmp_path):
    Image.new('RGB', (9, 13)).save(tmp_path / 'b' / '3.png')
    with pytest.raises(ConfigError, match=r'image \d+ has 13x9 pixels of 3 channels, others have 12x9 pixels '
                                          r'of 3 channels; add.*Resize'):
        loader(in_memory(folder))


@pytest.mark.parametrize('changes, message', [
    (dict(img=np.zeros((8, 8, 3), np.float32)), r'image 2 is a float32 \(8, 8, 3\), expected uint8'),
    (dict(gt_label=[1, 2]), r'image 2 has gt_label=\[1, 2\], expected one number')])
def test_other_images(changes, message):
    dataset = build(in_memory(pipeline=PLAIN))
    dataset.images.dataset.pipeline = lambda item: dict(item, **changes)
    with pytest.raises(ConfigError, match=message):
        dataset[2]


def test_more_images_than_memory():
    """300 TB of them are more than any machine can address."""
    class ManyLargeImages:
        pipeline = staticmethod(lambda item: dict(img=np.zeros((1000, 1000, 3), np.uint8), gt_label=0))
        __len__, get_data_info = lambda self: 10**8, lambda self, index: {}

    with pytest.raises(ConfigError, match='100000000 images of 1000x1000 pixels of 3 channels take '
                                          '300,000,000,000,000 bytes, more memory than there is; leave'):
        decoded.Decoded(ManyLargeImages()).read(np.array([3]))


def test_views_need_their_sampler():
    dataset = build(in_memory())
    with pytest.raises(IndexError, match="image 40 of 40; views of images are drawn with "
                                         "sampler=dict.type='ckd_mm.ViewSampler'"):
        dataset[40]
    with pytest.raises(IndexError, match='image -41 of 40'):
        dataset[-41]
