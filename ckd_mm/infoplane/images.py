"""The images on which snapshots are measured."""

import copy
from collections.abc import Callable

import torch
from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS as CLASSIFICATION_DATASETS

from ..data.damaged import name_damaged
from ..data.in_memory import settled
from ..data.split import held_out_indices
from ..data.wrappers import undivided
from ..errors import ConfigError
from ..progress import Progress
from .estimators import ProbeImages


def held_out_part(dataset: dict, held_out: float | int, seed: int, part: str) -> dict:
    """Config of the held-out part of a training set (``part='held_out'``), or of the others ('rest')."""
    return dict(type='ckd_mm.split_dataset', dataset=copy.deepcopy(dataset), part=part, held_out=held_out,
                seed=seed)


def probe_dataset(config: dict, probe_split: str, held_out: float | int, seed: int) -> dict:
    """Config of the data set that is probed, with the evaluation pipeline; other arguments as in
    :class:`ProbeSettings`.

    Args:
        config: of the run, with ``train_dataloader`` and ``test_dataloader`` (else ``val_dataloader``).
    """
    evaluation = config.get('test_dataloader') or config.get('val_dataloader')
    if evaluation is None:
        raise ConfigError('probe: the config has no test_dataloader and no val_dataloader, whose pipeline '
                          'the probe uses; give one')
    if probe_split == 'test':
        return copy.deepcopy(evaluation['dataset'])
    training = settled(config['train_dataloader']['dataset'])
    inner = undivided(training)
    if 'pipeline' not in inner:
        raise ConfigError(f'probe: the training set of type {training.get("type")} has no pipeline of its '
                          "own to replace, so no part of it can be held out; use probe_split='test'")
    inner['pipeline'] = undivided(settled(evaluation['dataset']))['pipeline']
    return held_out_part(training, held_out, seed, 'held_out')


def load_probe_images(dataset: dict | BaseDataset, num_images: int | None = None, seed: int = 0,
                      log: Callable[[str], None] = print) -> ProbeImages:
    """Read images into memory; raises ConfigError if they are not uint8, or not of one size.

    Args:
        dataset: or its config.
        num_images: at most this many, drawn without replacement by ``seed``; None: all.
    """
    built = name_damaged(CLASSIFICATION_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset)
    chosen = range(len(built))
    if num_images is not None and num_images < len(built):
        chosen = held_out_indices(len(built), num_images, seed)
    pixels, labels, progress = [], [], Progress(log, 'Probe: reading image', len(chosen))
    for index in chosen:
        item = built[index]
        image = item['inputs'].cpu()
        if image.dtype != torch.uint8:
            raise ConfigError(f'probe: the evaluation pipeline gives {image.dtype} images, expected uint8 '
                              '(normalisation belongs into the data_preprocessor)')
        if pixels and image.shape != pixels[0].shape:
            raise ConfigError(f'probe: the evaluation pipeline gives images of {tuple(pixels[0].shape)} and '
                              f'{tuple(image.shape)}; add a transform that makes them equal (CenterCrop, '
                              'Resize)')
        pixels.append(image)
        if 'gt_label' not in item['data_samples']:
            raise ConfigError(f'probe: image {index} has no label, by which I(Y;F) is measured; measure the '
                              "test images, probe_split='test', or nothing, probe=None")
        labels.append(item['data_samples'].gt_label.reshape(-1)[0])
        progress.step()
    return ProbeImages(torch.stack(pixels), torch.stack(labels).long())
