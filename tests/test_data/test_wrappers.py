import copy

import pytest
from mmengine.config import ConfigDict
from mmpretrain.datasets import CIFAR10
from mmpretrain.registry import DATASETS

from ckd_mm.data import Digits, InMemory, Views, split_dataset
from ckd_mm.data.wrappers import is_part, is_replayable, kind_of, replayable_part, undivided
from ckd_mm.infoplane.images import probe_dataset

DIGITS = dict(type='ckd_mm.Digits', split='train', indices=40, pipeline=[dict(type='PackInputs')])
KINDS = dict(InMemory=InMemory, Views=Views, split_dataset=split_dataset)


def named(name: str) -> list:
    """All ways to write it."""
    return [dict(type=f'ckd_mm.{name}'), dict(type=name, _scope_='ckd_mm'), dict(type=KINDS[name])]


def around(wrapper: dict, dataset: dict = DIGITS) -> dict:
    part = dict(part='rest', held_out=4) if kind_of(wrapper) is split_dataset else {}
    return dict(wrapper, dataset=dataset, **part)


@pytest.mark.parametrize('name', KINDS)
@pytest.mark.parametrize('way', range(3))
def test_wrappers_by_every_name(name, way, digits_run):
    wrapper, inside = named(name)[way], around(named('split_dataset')[way])
    assert kind_of(wrapper) is KINDS[name]
    assert (is_part(wrapper), is_replayable(wrapper)) == (name == 'split_dataset', name != 'split_dataset')
    config = around(wrapper, inside)
    assert undivided(config) is DIGITS and undivided(ConfigDict(copy.deepcopy(config))) == DIGITS
    assert replayable_part(around(named('split_dataset')[way], config)) is (
        None if name == 'split_dataset' else config)
    assert len(DATASETS.build(copy.deepcopy(config))) == (32 if name == 'split_dataset' else 36)
    run = digits_run()
    run.train_dataloader.dataset = config
    assert undivided(probe_dataset(run, 'held_out', 4, 0))['pipeline'] == run.test_dataloader.dataset.pipeline


@pytest.mark.parametrize('dataset, kind', [
    (dict(type='CIFAR10'), CIFAR10), (dict(type='mmpretrain.CIFAR10'), CIFAR10),
    (dict(type='CIFAR10', _scope_='ckd_mm'), None), (dict(type=Digits), Digits),
    (dict(type='InMemory'), None), (dict(), None)], ids=str)
def test_other_data_sets(dataset, kind):
    assert kind_of(dataset) is kind and undivided(dataset) is dataset and replayable_part(dataset) is None


def test_data_sets_of_the_same_name_elsewhere():
    """A user's own ``InMemory`` is none of ours."""
    @DATASETS.register_module(name='InMemory')
    def in_memory(dataset):
        return DATASETS.build(dataset)

    try:
        assert undivided(dict(type='InMemory', dataset=DIGITS))['type'] == 'InMemory'
    finally:
        DATASETS.module_dict.pop('InMemory')
