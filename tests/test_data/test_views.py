import copy
import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS

from ckd_mm.data import ViewSampler
from ckd_mm.errors import ConfigError

from ..helpers import assert_same_weights, train

IMAGES = 12
PIPELINE = [dict(type='RandomCrop', crop_size=8, padding=3), dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs')]
DIGITS = dict(type='ckd_mm.Digits', split='train', indices=IMAGES, pipeline=PIPELINE)
KINDS = ['ckd_mm.Views', 'ckd_mm.InMemory']


def build(kind: str = 'ckd_mm.Views', **settings):
    return DATASETS.build(dict(dict(type=kind, dataset=DIGITS), **settings))


def loader(kind: str, workers: int = 0, seed: int = 5, **sampler):
    sampler = dict(dict(type='ckd_mm.ViewSampler', shuffle=True), **sampler)
    return Runner.build_dataloader(dict(batch_size=5, num_workers=workers, persistent_workers=False,
                                        sampler=sampler, collate_fn=dict(type='default_collate'),
                                        dataset=dict(type=kind, dataset=DIGITS)), seed=seed)


def epoch(of, number: int) -> dict:
    """(image, view) to pixels."""
    of.sampler.set_epoch(number)
    return {(sample.sample_idx, sample.view): image
            for batch in of for image, sample in zip(batch['inputs'], batch['data_samples'])}


def assert_same(left: dict, right: dict) -> None:
    assert list(left) == list(right)  # in the same order
    assert all(torch.equal(left[key], right[key]) for key in left)


def differing(left: dict, right: dict) -> int:
    """How many images differ, whatever their views."""
    left, right = ({image: pixels for (image, _), pixels in seen.items()} for seen in (left, right))
    return sum(not torch.equal(pixels, right[image]) for image, pixels in left.items())


def drawn_by(sample) -> tuple[int, int]:
    return sample['data_samples'].sample_idx, sample['data_samples'].view


# ------------------------------------------------------------ a view
@pytest.mark.parametrize('kind', KINDS)
def test_a_view_is_always_the_same(kind):
    """In whatever order, batch and state of the generators."""
    dataset = build(kind, seed=1)
    dataset.replay(99)  # the sampler's; the data set's own seed counts
    first = [dataset[index]['inputs'] for index in range(4 * IMAGES)]
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    indices = [*reversed(range(4 * IMAGES)), 3, 3]
    for index, item in zip(indices, dataset.__getitems__(indices), strict=True):
        assert torch.equal(first[index], item['inputs'])
        assert drawn_by(item) == (index % IMAGES, index // IMAGES)
        assert item['data_samples'].gt_label.tolist() == [dataset.get_data_info(index)['gt_label']]
    for view in range(1, 4):
        pairs = zip(first[:IMAGES], first[view * IMAGES:])
        assert sum(not torch.equal(*pair) for pair in pairs) >= IMAGES - 2
    other = build(kind, seed=2)
    other.replay(99)
    assert sum(not torch.equal(image, other[index]['inputs']) for index, image in enumerate(first)) > 40


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('is_replayed', [True, False])
def test_images_from_behind(kind, is_replayed):
    """With other samplers than ViewSampler data samples have no view."""
    dataset = build(kind, seed=1)
    if is_replayed:
        dataset.replay(0)
    sample = dataset[-1]['data_samples']
    assert sample.sample_idx == IMAGES - 1 and sample.get('view') == (0 if is_replayed else None)
    with pytest.raises(IndexError):
        dataset[-IMAGES - 1]


def test_a_view_is_augmented_as_the_pipeline_says():
    """Each is one of the 49 * 2 images that the pipeline can make, and the places of the crop are all
    there."""
    plain = DATASETS.build(dict(DIGITS, pipeline=[dict(type='PackInputs')]))
    dataset = build(seed=0)
    dataset.replay(0)
    padded = torch.nn.functional.pad(plain[3]['inputs'], (3, 3, 3, 3))
    possible = {}
    for top in range(7):
        for left in range(7):
            crop = padded[:, top:top + 8, left:left + 8]
            possible[crop.numpy().tobytes()] = possible[crop.flip(2).contiguous().numpy().tobytes()] = top
    tops = [possible[dataset[3 + view * IMAGES]['inputs'].numpy().tobytes()] for view in range(100)]
    assert set(tops) == set(range(7))


def test_random_numbers_of_others_go_on_untouched():
    dataset = build(seed=3)
    dataset.replay(0)
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    dataset[5]
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


# ------------------------------------------------------------ drawn by the sampler
@pytest.mark.parametrize('kind', KINDS)
def test_epochs_and_their_views(kind):
    ours, again, always = loader(kind, views=2), loader(kind, views=2), loader(kind)
    epochs = [epoch(ours, number) for number in range(4)]
    assert [{view for _, view in seen} for seen in epochs] == [{0}, {1}, {0}, {1}]
    assert all(sorted(image for image, _ in seen) == list(range(IMAGES)) for seen in epochs)
    assert differing(epochs[0], epochs[2]) == 0 and differing(epochs[0], epochs[1]) > 6
    assert list(epochs[0]) != list(epochs[2])  # the order is that of the epoch
    assert_same(epochs[3], epoch(again, 3))  # as a resumed run, which has not seen the epochs before
    assert {view for _, view in epoch(always, 3)} == {3}
    assert differing(epoch(loader(kind, seed=6), 0), epochs[0]) > 6


@pytest.mark.parametrize('kind', KINDS)
def test_worker_processes_see_the_same(kind):
    assert_same(epoch(loader(kind, workers=2), 1), epoch(loader(kind), 1))


def test_order_is_that_of_the_default_sampler():
    ours, default = loader('ckd_mm.Views').sampler, loader('ckd_mm.Views', type='DefaultSampler').sampler
    for number in (0, 2):
        ours.set_epoch(number), default.set_epoch(number)
        assert [index - number * IMAGES for index in ours] == list(default)


def test_processes_share_an_epoch(monkeypatch):
    """Five processes: 12 images are filled up to 15, with the first ones in the same view."""
    indices = []
    for rank in range(5):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 5))
        sampler = ViewSampler(build(), views=3, seed=0)
        sampler.set_epoch(5)
        assert len(sampler) == 3
        indices.append(list(sampler))
    drawn = [indices[place % 5][place // 5] for place in range(15)]
    assert {index // IMAGES for index in drawn} == {2}
    assert sorted(drawn[:IMAGES]) == list(range(2 * IMAGES, 3 * IMAGES)) and drawn[IMAGES:] == drawn[:3]


@pytest.mark.parametrize('kind, workers', [('ckd_mm.Views', 0), ('ckd_mm.Views', 2), ('ckd_mm.InMemory', 0)])
def test_resumed_run_ends_like_an_unbroken_one(kind, workers, digits_run, tmp_path):
    settings = {
        'train_dataloader.num_workers': workers,
        'train_dataloader.dataset': dict(type=kind, dataset=DIGITS, _delete_=True),
        'train_dataloader.sampler': dict(type='ckd_mm.ViewSampler', shuffle=True),
        'train_dataloader.batch_size': 4
    }
    unbroken = train(digits_run(epochs=3, work_dir=tmp_path / 'unbroken', **settings))
    train(digits_run(epochs=1, work_dir=tmp_path / 'broken', **settings))
    torch.manual_seed(1234)
    resumed = train(digits_run(epochs=3, work_dir=tmp_path / 'broken', resume=True, **settings))
    assert resumed.iter == unbroken.iter == 9
    assert_same_weights(unbroken.model.state_dict(), resumed.model.state_dict())


# ------------------------------------------------------------ parts, and the interface that hooks use
@pytest.mark.parametrize('kind', KINDS)
def test_a_part(kind):
    dataset = build(kind, seed=4)
    dataset.replay(4)
    dataset.get_subset_([7, 2, 9])
    assert len(dataset) == 3 and dataset.metainfo['classes'] == tuple('0123456789')
    whole = DATASETS.build(DIGITS)
    assert [dataset.get_data_info(index)['gt_label'] for index in (0, 1, 2, 4)] == [
        whole.get_data_info(index)['gt_label'] for index in (7, 2, 9, 2)]
    assert drawn_by(dataset[4]) == (1, 1)
    assert [item['data_samples'].sample_idx for item in dataset] == [0, 1, 2]  # iterating ends


def test_all_else_is_the_data_sets():
    dataset, plain = build(seed=4), DATASETS.build(DIGITS)
    dataset.replay(0)
    for again in (dataset, copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert (again.CLASSES, again.class_to_idx['3'], again.split) == (plain.CLASSES, 3, 'train')
        assert torch.equal(again[17]['inputs'], dataset[17]['inputs'])
    assert not hasattr(dataset, 'pipeline')  # hooks would set it; they go on to the data set inside
    assert not hasattr(dataset, 'nothing_of_this_kind')


@pytest.mark.parametrize('several', ['ConcatDataset', 'RepeatDataset'])
def test_a_part_of_what_cannot_be_divided(several):
    several_of = dict(ConcatDataset=dict(datasets=[DIGITS, DIGITS]),
                      RepeatDataset=dict(times=2, dataset=DIGITS))
    inner = dict(several_of[several], type=several)
    for dataset in (inner, dict(type='ckd_mm.Views', dataset=inner)):
        with pytest.raises(ConfigError,
                           match=f"a part of a {several} cannot be held out.*probe_split='test'"):
            DATASETS.build(dict(type='ckd_mm.split_dataset', part='rest', held_out=4, dataset=dataset))


# ------------------------------------------------------------ errors
@pytest.mark.parametrize('kind', KINDS)
def test_other_samplers_show_new_images_every_epoch(kind):
    """Even of a data set with a seed: they know no views, and would show the first one for ever."""
    of, seen = loader(kind, type='DefaultSampler'), []
    of.dataset.seed = 3
    for number in range(2):
        of.sampler.set_epoch(number)
        seen.append({sample.sample_idx: image for batch in of
                     for image, sample in zip(batch['inputs'], batch['data_samples'])})
    assert sum(not torch.equal(seen[0][image], seen[1][image]) for image in range(IMAGES)) > 6


@pytest.mark.parametrize('bad', [-1, 1.5, True, 'x'])
def test_bad_numbers(bad):
    with pytest.raises(ConfigError, match=f'Views: seed={bad!r} should be a whole number'):
        build(seed=bad)
    for views in (bad, 0):
        with pytest.raises(ConfigError, match=f'ViewSampler: views={views!r} should be a whole number'):
            ViewSampler(build(), views=views, seed=0)


def test_a_data_set_that_cannot_be_replayed():
    with pytest.raises(ConfigError, match="a Digits cannot be augmented twice.*type='ckd_mm.Views'"):
        ViewSampler(DATASETS.build(DIGITS), seed=0)


@pytest.mark.parametrize('inner', KINDS)
def test_views_of_views(inner):
    with pytest.raises(ConfigError, match=f'Views: its data set is {inner}, which can be replayed as it is; '
                                          'leave Views out'):
        build(dataset=dict(type=inner, dataset=DIGITS))


IN_MEMORY = dict(type='ckd_mm.InMemory', dataset=DIGITS)


@pytest.mark.parametrize('outer', [
    dict(type='ConcatDataset', datasets=[DIGITS, IN_MEMORY]),
    dict(type='RepeatDataset', times=2,
         dataset=dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=IN_MEMORY))])
def test_views_of_what_is_replayed_further_inside(outer):
    """It would be augmented anew each time, and differently in each process."""
    with pytest.raises(ConfigError, match=f'Views: inside of its {outer["type"]} is a ckd_mm.InMemory, '
                                          '.*would not be replayed'):
        build(dataset=outer)
