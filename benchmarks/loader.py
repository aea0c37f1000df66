"""What it costs to load the next batch of small images."""

import copy
from collections.abc import Iterator

import numpy as np
from measure import Contender, Pair, paired_ratios
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS
from torch import Tensor
from torch.utils.data import DataLoader
from workload import CONFIGS, Workload

BATCHES = 32  # in a half
CIFAR10 = CONFIGS / 'datasets' / 'cifar10_bs128.py'


@DATASETS.register_module()
class NoiseCIFAR(BaseDataset):
    """50,000 images of noise, stored as mmpretrain's CIFAR10 stores its own; nothing need be downloaded."""
    METAINFO = dict(classes=tuple('0123456789'))

    def load_data_list(self) -> list[dict]:
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, (50_000, 3, 32, 32), dtype=np.uint8).transpose(0, 2, 3, 1)
        labels = generator.integers(0, 10, len(images))
        return [dict(img=image, gt_label=int(label)) for image, label in zip(images, labels)]


def small_images_loader(work: Workload) -> list[float]:
    """Images/s of mmpretrain's CIFAR pipeline (crop out of 4 pixels of padding, flip) / of ``InMemory``.

    Both are data loaders that ``Runner.build_dataloader`` makes of the config of CIFAR-10, without worker
    processes: one core each. What comes out is the same to the last type, and what happens to it later
    (normalisation in the data preprocessor) costs both the same.
    """
    mmpretrains = dict(type='NoiseCIFAR', ann_file='', pipeline=Config.fromfile(CIFAR10).train_pipeline)

    def make_pair() -> Pair:
        return contender(dict(type='ckd_mm.InMemory', dataset=mmpretrains)), contender(mmpretrains)

    # the labels are those of the same images; how these are augmented is random
    return paired_ratios(make_pair, max(work.repeats // 4, 1), BATCHES, work.device, tolerance=1e-9)


def contender(dataset: dict) -> Contender:
    """A step takes the next batch, shuffled anew after each epoch."""
    batches = endless(loader(dataset))

    def step(_) -> Tensor:
        batch = next(batches)
        return batch['inputs'].shape[0] + batch['data_samples'][-1].gt_label

    return Contender(step, lambda: None)


def loader(dataset: dict) -> DataLoader:
    config = Config.fromfile(CIFAR10).train_dataloader
    collate = 'ckd_mm.whole_batch' if dataset['type'] == 'ckd_mm.InMemory' else 'default_collate'
    return Runner.build_dataloader(
        dict(config, num_workers=0, persistent_workers=False, dataset=copy.deepcopy(dataset),
             collate_fn=dict(type=collate)), seed=0)


def endless(batches: DataLoader) -> Iterator[dict]:
    while True:
        yield from batches
