import pytest
from mmengine.config import Config

from ckd_mm import cli

DIGITS = dict(type='ckd_mm.Digits', split='train')


def in_memory(**settings) -> dict:
    return dict(type='ckd_mm.InMemory', dataset=DIGITS, **settings)


def with_loader_defaults(dataset, monkeypatch, accelerator: bool = True, **settings) -> dict:
    monkeypatch.setattr('ckd_mm.compat.accelerator_available', lambda: accelerator)
    config = Config(dict(train_dataloader=dict(settings, dataset=dataset), val_dataloader=None))
    cli.set_loader_defaults(config)
    return config.train_dataloader


@pytest.mark.parametrize('dataset, pinned', [
    (DIGITS, True), (in_memory(), True), (in_memory(device=None), True), (in_memory(device='cpu'), True),
    (in_memory(device='cuda'), False),
    (dict(type='ckd_mm.split_dataset', part='rest', held_out=10, dataset=in_memory(device='cuda:1')), False),
    (dict(type='ConcatDataset', datasets=[DIGITS, in_memory(device='cuda')]), False), ], ids=str)
def test_images_on_a_device_are_not_pinned(dataset, pinned, monkeypatch):
    assert with_loader_defaults(dataset, monkeypatch).pin_memory is pinned
    assert with_loader_defaults(dataset, monkeypatch, accelerator=False).pin_memory is False
    assert with_loader_defaults(dataset, monkeypatch,
                                pin_memory=True).pin_memory is True  # what the config says


@pytest.mark.parametrize('workers, persistent', [(0, False), (2, True)])
def test_loader_defaults(workers, persistent, monkeypatch):
    loader = with_loader_defaults(DIGITS, monkeypatch, num_workers=workers)
    assert loader.persistent_workers is persistent and loader.collate_fn.type == 'default_collate'
