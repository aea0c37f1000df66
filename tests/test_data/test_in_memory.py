"""A data set in memory is the data set, but for the random numbers of its augmentation."""

import copy
import struct

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, TRANSFORMS
from PIL import Image

from ckd_mm.compat import stop_workers
from ckd_mm.data import decoded
from ckd_mm.errors import ConfigError
from ckd_mm.infoplane import load_probe_images
from ckd_mm.infoplane.images import probe_dataset

from ..helpers import StepLog, assert_same_weights, train

AUGMENTED = CROP, FLIP, PACK = [dict(type='RandomCrop', crop_size=8, padding=1),
                                dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]
LOAD = dict(type='LoadImageFromFile')
DIGITS = dict(type='ckd_mm.Digits', split='train', indices=40, pipeline=AUGMENTED)
PLAIN = dict(DIGITS, pipeline=[PACK])
ALL = list(range(40))
KINDS = ['ckd_mm.InMemory', 'ckd_mm.Views']


def in_memory(dataset: dict = DIGITS, **settings) -> dict:
    return dict(type='ckd_mm.InMemory', dataset=dataset, **settings)


def split(dataset: dict, part: str) -> dict:
    return dict(type='ckd_mm.split_dataset', dataset=dataset, part=part, held_out=10, seed=1)


def build(config):
    return DATASETS.build(copy.deepcopy(config))


def loader(dataset, workers: int = 0, collate: str = 'default_collate'):
    return Runner.build_dataloader(
        dict(batch_size=16, num_workers=workers, persistent_workers=False, collate_fn=dict(type=collate),
             sampler=dict(type='DefaultSampler', shuffle=True), dataset=copy.deepcopy(dataset)), seed=0)


@pytest.fixture(autouse=True)
def nothing_decoded(monkeypatch):
    monkeypatch.setattr(decoded, '_decoded', {})


@pytest.fixture
def folder(tmp_path):
    """A data set of 20 files of 12x9 pixels (height x width)."""
    images = np.random.default_rng(0).integers(0, 256, (20, 12, 9, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        path = tmp_path / 'ab'[index % 2] / f'{index}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return dict(type='CustomDataset', data_root=str(tmp_path), pipeline=[LOAD, PACK])


def items_of(dataset) -> list:
    return [dataset[index] for index in range(len(dataset))]


def pixels(items) -> list[bytes]:
    return [item['inputs'].numpy().tobytes() for item in items]


def labels(items) -> list[int]:
    return [int(item['data_samples'].gt_label) for item in items]


def differing(left, right) -> int:
    return sum(one != other for one, other in zip(pixels(left), pixels(right), strict=True))


def assert_same_items(left, right) -> None:
    for one, other in zip(left, right, strict=True):
        assert one['inputs'].dtype == torch.uint8 and torch.equal(one['inputs'], other['inputs'])
        assert one['inputs'].is_contiguous()
        for name in ('gt_label', 'sample_idx'):
            assert one['data_samples'].get(name) == other['data_samples'].get(name), name


# ------------------------------------------------------------ the images of the data set
@pytest.mark.parametrize('steps', [
    [], [dict(type='ResizeEdge', scale=6, edge='short'), dict(type='CenterCrop', crop_size=5)],
    [dict(type='Resize', scale=(7, 11))]], ids=str)
def test_without_augmentation_it_is_the_data_set_itself(steps, folder):
    for dataset in (dict(DIGITS, pipeline=[*steps, PACK]), dict(folder, pipeline=[LOAD, *steps, PACK])):
        plain, ours = build(dataset), build(in_memory(dataset))
        assert_same_items(ours, items_of(plain))
        assert_same_items([ours[-1], *build(in_memory(dataset, device='cpu'))],
                          [plain[len(plain) - 1], *items_of(plain)])
        assert ours.metainfo == plain.metainfo and ours.CLASSES == plain.CLASSES
        assert ours.get_data_info(3)['gt_label'] == plain.get_data_info(3)['gt_label']


def test_data_samples_are_those_of_mmpretrain(folder):
    sample = build(in_memory(folder))[3]['data_samples']
    assert (sample.keys(), sample.metainfo_keys()) == (['gt_label'], ['sample_idx'])  # no view: not replayed
    assert sample.gt_label.tolist() == [0] and sample.gt_label.dtype == torch.int64
    again = sample.clone().set_gt_label(1).set_pred_score(torch.ones(2))
    assert sample.gt_label.tolist() == [0] and again.gt_label.tolist() == [1] and again.num_classes == 2
    assert 'pred_score' not in build(in_memory(folder))[3]['data_samples']


@pytest.mark.parametrize('collate, as_of, workers', [
    ('default_collate', 'default_collate', 0), ('pseudo_collate', 'pseudo_collate', 0),
    ('ckd_mm.whole_batch', 'default_collate', 0), ('ckd_mm.whole_batch', 'default_collate', 2)])
def test_a_loader_gives_the_same_batches(collate, as_of, workers):
    expected = list(loader(PLAIN, collate=as_of))
    others = [loader(PLAIN, collate=collate)] if collate.startswith('ckd_mm') else []  # collated as before
    for ours in (loader(in_memory(PLAIN), workers, collate), *others):
        for one, other in zip(expected, ours, strict=True):
            assert type(other) is type(one) and all(type(other[key]) is type(one[key]) for key in one)
            assert all(torch.equal(*pair) for pair in zip(one['inputs'], other['inputs'], strict=True))
            assert [sample.gt_label for sample in one['data_samples']] == [
                sample.gt_label for sample in other['data_samples']]


def test_grey_images_of_mmpretrain(tmp_path):
    """Their labels are arrays of no dimension."""
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 4), dtype=np.uint8)
    classes = [3, 1, 4, 1, 5, 9, 2]
    for part in ('train', 't10k'):
        for name, header, content in (('images-idx3', (2051, *images.shape), images.tobytes()),
                                      ('labels-idx1', (2049, 7), bytes(classes))):
            file = tmp_path / f'{part}-{name}-ubyte'
            file.write_bytes(struct.pack(f'>{len(header)}i', *header) + content)
    items = list(build(in_memory(dict(type='MNIST', data_root=str(tmp_path), pipeline=[PACK]))))
    assert labels(items) == classes
    assert torch.equal(torch.stack([item['inputs'] for item in items]), torch.from_numpy(images)[:, None])


# ------------------------------------------------------------ augmented
def test_drawn_from_the_generator_of_torch():
    """Which a resumed run restores; other generators do not matter, and without augmentation nothing is
    drawn."""
    dataset, plain = build(in_memory()), build(in_memory(PLAIN))
    torch.manual_seed(5)
    first, second = dataset.__getitems__(ALL), dataset.__getitems__(ALL)
    torch.manual_seed(5)
    np.random.seed(1)
    plain.__getitems__(ALL)
    assert_same_items(dataset.__getitems__(ALL), first)
    assert differing(first, second) > 30


def test_processes_augment_differently(monkeypatch):
    """mmengine seeds all processes of a run alike; their generators stay in step, whatever the sizes of their
    batches."""
    dataset, seen, afterwards = build(in_memory()), {}, set()
    for rank in (0, 1, 0, 2):
        monkeypatch.setattr('ckd_mm.data.in_memory.get_rank', lambda rank=rank: rank)
        torch.manual_seed(5)
        dataset.__getitems__([0, 1, 2][:rank + 1])
        batch = dataset.__getitems__(ALL)
        afterwards.add(torch.rand(1).item())
        assert_same_items(batch, seen.setdefault(rank, batch))
    # 18 pictures of each image
    assert min(differing(seen[one], seen[other]) for one, other in ((0, 1), (0, 2), (1, 2))) > 25
    assert len(afterwards) == 1


def test_images_by_themselves_are_augmented_like_batches():
    """Crops and flips of one image, one at a time and together (as a weighted sampler may draw it): the same
    18 pictures."""
    dataset, real = build(in_memory()), build(DIGITS)
    torch.manual_seed(0)
    np.random.seed(0)
    expected = set(pixels(real[7] for _ in range(400)))
    assert len(expected) == 18
    assert set(pixels(dataset[7] for _ in range(400))) == expected
    assert set(pixels(dataset.__getitems__([7] * 400))) == expected


# ------------------------------------------------------------ parts, and the stages of a run
@pytest.mark.parametrize('part, count', [('rest', 30), ('held_out', 10)])
def test_parts_are_those_of_the_data_set(part, count):
    expected = items_of(build(split(PLAIN, part)))
    assert len(expected) == count
    for config in (split(in_memory(PLAIN), part), in_memory(split(PLAIN, part))):
        assert_same_items(build(config), expected)


@pytest.mark.parametrize('indices', [5, -5, [3, 1, 30], (0, )])
def test_subsets_are_those_of_mmengine(indices):
    plain, ours = build(PLAIN), build(in_memory(PLAIN))
    part = ours.get_subset(indices)
    assert len(ours) == 40 and part.images is ours.images
    for further in (indices, [0]):
        plain.get_subset_(further), ours.get_subset_(further)
        assert_same_items(ours, items_of(plain))
        if further is indices:
            assert_same_items(part, items_of(plain))


def test_stages_share_what_is_decoded(folder, monkeypatch):
    reads, kind = [], TRANSFORMS.get('LoadImageFromFile')
    load = kind.transform
    monkeypatch.setattr(kind, 'transform',
                        lambda self, item: reads.append(item['img_path']) or load(self, item))
    augmented = in_memory(dict(folder, pipeline=[LOAD, CROP, PACK]))
    build(augmented).__getitems__([7, 3, 7, 7, 3])
    assert len(reads) == 2  # no more than these
    build(split(augmented, 'rest')).full_init()
    assert len(set(reads)) == len(reads) <= 12
    for _ in loader(augmented):
        pass
    held_out = list(build(split(in_memory(folder), 'held_out')))  # another pipeline that begins with the same
    assert len(set(reads)) == len(reads) == 20
    assert_same_items(held_out, items_of(build(split(folder, 'held_out'))))
    for size in range(5, 12):
        build(in_memory(dict(PLAIN, pipeline=[dict(type='Resize', scale=(size, size)), PACK])))
    assert len(decoded._decoded) == decoded.KEPT == 4


def test_settings_of_the_data_set(digits_run):
    """Command lines that were written for the data set alone still mean the same."""
    config = digits_run()
    config.train_dataloader.dataset = split(in_memory(), 'rest')
    config.merge_from_dict({f'train_dataloader.dataset.dataset.{key}': value for key, value in {
        'indices': 30, 'split': 'test', 'pipeline.0.padding': 2, 'pipeline.1.direction': 'vertical'}.items()})
    ours = build(config.train_dataloader.dataset)
    assert labels(ours) == labels(items_of(build(split(dict(DIGITS, indices=30, split='test'), 'rest'))))
    crop, flip, _ = ours.pipeline.transforms
    assert (crop.padding, crop.crop_size, flip.direction) == (2, (8, 8), 'vertical')
    assert DIGITS['pipeline'] is AUGMENTED and CROP['padding'] == 1
    config.train_dataloader.dataset.dataset.pipeline = [FLIP, PACK]
    assert [type(step).__name__ for step in build(config.train_dataloader.dataset).pipeline.transforms] == [
        'RandomFlip', 'PackInputs']
    with pytest.raises(TypeError, match='devise'):
        build(in_memory(devise='cuda'))


@pytest.mark.parametrize('changes', [{'3': dict(prob=1)}, {'flip': dict(prob=1)}, {'0': 'RandomFlip'},
                                     {'0': None}], ids=str)
def test_changes_of_transforms_that_are_not_there(changes):
    with pytest.raises(ConfigError, match=r'pipeline=\{.*0: RandomCrop, 1: RandomFlip, 2: '
                                          r'PackInputs.*dataset.dataset.pipeline.0'):
        build(in_memory(pipeline=changes))


@pytest.mark.parametrize('kind', KINDS)
def test_wrappers_and_hooks_of_mmengine_and_mmpretrain(kind):
    """They read one image at a time, its class, all labels and the names of the classes."""
    inside = dict(type=kind, dataset=PLAIN)
    for wrapper, count in ((dict(type='RepeatDataset', times=2), 80),
                           (dict(type='ClassBalancedDataset', oversample_thr=0.2), 80),
                           (dict(type='KFoldDataset', fold=1, num_splits=4, seed=0), 30)):
        plain, ours = (build(dict(wrapper, dataset=dataset)) for dataset in (PLAIN, inside))
        assert len(ours) == count
        assert_same_items(items_of(ours), items_of(plain))
    assert ours.get_gt_labels().tolist() == plain.get_gt_labels().tolist()  # those of the fold
    assert type(ours.dataset).__name__ == kind.removeprefix('ckd_mm.')
    ours = build(inside)
    assert list(ours.CLASSES) == list('0123456789') and ours.get_gt_labels().tolist()[:10] == ALL[:10]
    ours.get_subset_([7, 2])
    assert ours.get_gt_labels().tolist() == [7, 2]


SMALLER = [dict(type='Resize', scale=(6, 5)), dict(type='RandomFlip', prob=1.), PACK]
SWITCHED = dict(type='SwitchRecipeHook', schedule=[dict(action_epoch=2, train_pipeline=SMALLER)])


@pytest.mark.parametrize('kind, workers', [('ckd_mm.InMemory', 0), ('ckd_mm.InMemory', 2),
                                           ('ckd_mm.Views', 0)])
def test_a_run_trains_the_same(kind, workers, digits_run):
    """With hooks that read the classes, and change the pipeline in the middle of a training: transforms that
    are done once, too."""
    runners, logs = [], [StepLog(), StepLog()]
    for log in logs:
        config = digits_run(custom_hooks=[SWITCHED, dict(type='ClassNumCheckHook')])
        if log is logs[1]:
            for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
                config[name].dataset = dict(type=kind, dataset=config[name].dataset)
                config[name].collate_fn = dict(type='ckd_mm.whole_batch')
            config.train_dataloader.update(num_workers=workers, persistent_workers=workers > 0)
        runners.append(train(config, log))
    assert len(logs[0].steps) == 8 and logs[0].steps == logs[1].steps
    assert_same_weights(*(runner.model.state_dict() for runner in runners))
    assert runners[1].train_dataloader.dataset[0]['inputs'].shape == (3, 5, 6)
    stop_workers(runners[1].train_dataloader)


def test_another_pipeline():
    """mmpretrain's browse_dataset.py puts one of its own."""
    class InspectCompose(Compose):
        """Keeps what is between the transforms."""

    dataset = build(in_memory())
    other = dataset.get_subset([7, 2])
    dataset.pipeline = [dict(type='CenterCrop', crop_size=4), PACK]
    expected = items_of(build(dict(DIGITS, pipeline=[dict(type='CenterCrop', crop_size=4), PACK])))
    assert_same_items(dataset, expected)
    assert [item['inputs'].shape for item in other] == [(3, 8, 8)] * 2
    other.pipeline = dataset.pipeline
    assert torch.equal(other[1]['inputs'], expected[2]['inputs']) and other.images is dataset.images
    for pipeline, message in (
            ([dict(type='ColorJitter'), PACK], 'ColorJitter, number 0 of the pipeline'),
            (InspectCompose([PACK]), 'pipeline=InspectCompose would be shown one image at a time.*leave '
                                     'InMemory out, with')):
        with pytest.raises(ConfigError, match=message):
            dataset.pipeline = pipeline
        assert_same_items(dataset, expected)  # as before


def test_probed(digits_run):
    """The held-out part is probed without augmentation, and is that of the data set without InMemory."""
    config = digits_run()

    def shown(training: dict):
        config.train_dataloader.dataset = training
        return load_probe_images(probe_dataset(config, 'held_out', 10, 0))

    plain = shown(DIGITS)
    for training in (in_memory(), dict(type='ckd_mm.Views', dataset=DIGITS, seed=0),
                     in_memory(PLAIN, pipeline=AUGMENTED)):
        images = shown(training)
        assert torch.equal(images.pixels, plain.pixels) and torch.equal(images.labels, plain.labels)
    whole = shown(split(DIGITS, 'rest')).pixels
    for training in (in_memory(split(DIGITS, 'rest')), split(in_memory(), 'rest')):
        assert torch.equal(shown(training).pixels, whole)


# ------------------------------------------------------------ devices
def test_images_and_augmentation_are_on_the_device():
    """On torch's device without values: every operation on pixels must have happened there, or it would
    complain."""
    of = loader(in_memory(device='meta'))
    batch = next(iter(of))
    assert batch['inputs'].device.type == 'meta' and batch['inputs'].shape == (16, 3, 8, 8)
    assert batch['data_samples'][0].gt_label.device.type == 'cpu'
    of.dataset.pipeline = [dict(type='CenterCrop', crop_size=6), FLIP, PACK]
    assert of.dataset.get_subset(5)[4]['inputs'].shape == next(iter(of))['inputs'].shape[1:] == (3, 6, 6)
    batches = iter(loader(in_memory(device='meta'), workers=1))
    with pytest.raises(ConfigError, match="device='meta' the images are on the device.*num_workers=0"):
        next(batches)
    batches._shutdown_workers()  # the garbage collector would wait 5 seconds


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
    for host, device in zip(*(dataset.__getitems__(list(range(80))) for dataset in datasets), strict=True):
        assert device['inputs'].is_cuda and torch.equal(device['inputs'].cpu(), host['inputs'])


# ------------------------------------------------------------ what it cannot do
@pytest.mark.parametrize('pipeline, message', [
    ([CROP, dict(type='ColorJitter'), PACK],
     'ColorJitter, number 1 of the pipeline, cannot be done a batch at a time.*of RandomCrop, RandomFlip, and'
     '.*Or leave InMemory out, with num_workers=4 and persistent_workers=True'),
    ([CROP, dict(type='CenterCrop', crop_size=4), PACK], 'CenterCrop, number 1'),  # not after a random one
    ([dict(CROP, pad_if_needed=True), PACK], 'pad_if_needed=True of RandomCrop, number 0.*give padding'),
    ([PACK, CROP], 'PackInputs, number 0'), ([CROP], 'does not end with PackInputs'),
    ([], 'does not end with PackInputs'),
    ([dict(PACK, algorithm_keys=('boxes', ))], r'PackInputs\(.*boxes.*is not known here'),
    ([dict(PACK, meta_keys=('img_path', ))], r'PackInputs\(.*is not known here'),
], ids=str)
def test_other_pipelines_are_refused(pipeline, message):
    with pytest.raises(ConfigError, match=message):
        build(in_memory(dict(DIGITS, pipeline=pipeline)))


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
        build(in_memory(dataset))


def test_images_of_two_sizes(folder, tmp_path):
    Image.new('RGB', (9, 13)).save(tmp_path / 'b' / '3.png')
    with pytest.raises(ConfigError, match=r'image \d+ has 13x9 pixels of 3 channels, others have 12x9 pixels '
                                          r'of 3 channels; add.*Resize'):
        loader(in_memory(folder))


@pytest.mark.parametrize('changes, message', [
    (dict(img=np.zeros((8, 8, 3), np.float32)), r'image 2 is a float32 \(8, 8, 3\), expected uint8'),
    (dict(gt_label=[1, 2]), r'image 2 has gt_label=\[1, 2\], expected one number')])
def test_other_images(changes, message):
    dataset = build(in_memory(PLAIN))
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
