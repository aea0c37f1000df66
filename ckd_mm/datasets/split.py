"""Holding out a part of a training set."""

from typing import Any, Dict, List, Union

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS as CLASSIFICATION_DATASETS

from ..errors import ConfigError
from ..registry import DATASETS
from .views import ReplayableDataset, Views

WRAPPERS = ('ckd_mm.split_dataset', 'ckd_mm.InMemory', 'ckd_mm.Views')
IN_MEMORY_KEYS = ('type', 'dataset', 'device', 'seed')


def undivided(dataset: Dict) -> Dict:
    """The config of the data set that a part (of a part) is of, or that is augmented in another way: the one with the pipeline.

    Settings that were given to ``ckd_mm.InMemory`` and are not its own (``--cfg-options train_dataloader.dataset.data_root=...``) are
    moved there; so are changes of its pipeline (``train_dataloader.dataset.pipeline.0.padding=2``).

    Raises:
        ConfigError: such changes are of transforms that the pipeline does not have.
    """
    settings: Dict = {}
    while dataset.get('type') in WRAPPERS:
        if dataset['type'] == 'ckd_mm.InMemory':
            for key in [key for key in dataset if key not in IN_MEMORY_KEYS]:
                settings.setdefault(key, dataset.pop(key))
        dataset = dataset['dataset']
    if isinstance(settings.get('pipeline'), dict):
        settings['pipeline'] = changed(dataset.get('pipeline'), settings['pipeline'])
    dataset.update(settings)
    return dataset


def changed(pipeline: Any, changes: Dict) -> List:
    """A pipeline whose transforms have other settings: ``{'0': dict(padding=2)}``, as the command line writes them."""
    config = Config(dict(pipeline=list(pipeline or [])))
    try:
        config.merge_from_dict({f'pipeline.{place}': change for place, change in changes.items()})
    except (AttributeError, KeyError, TypeError) as error:
        names = ', '.join(f'{place}: {step.get("type") if isinstance(step, dict) else step}' for place, step in enumerate(pipeline or []))
        raise ConfigError(f'ckd_mm.InMemory: pipeline={dict(changes)!r} should be a list of transforms, or change some of those that the '
                          f'data set has ({names}), as in train_dataloader.dataset.dataset.pipeline.0.padding=2') from error
    return config.pipeline


def held_out_count(total: int, held_out: Union[float, int]) -> int:
    """
    Args:
        held_out: a fraction (float between 0 and 1) or a number of images (int).
    """
    if isinstance(held_out, bool) or not isinstance(held_out, (int, float)) or held_out <= 0 or \
            (isinstance(held_out, float) and held_out >= 1):
        raise ConfigError(f'held_out={held_out!r} should be a fraction between 0 and 1, or a whole number of images')
    count = held_out if isinstance(held_out, int) else round(total * held_out)
    if not 0 < count < total:
        raise ConfigError(f'held_out={held_out!r} would hold out {count} of {total} training images; some must remain on either side')
    return count


def held_out_indices(total: int, held_out: Union[float, int], seed: int) -> List[int]:
    """The same images for the same numbers, on every machine and in every process; sorted."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:held_out_count(total, held_out)].tolist())


@DATASETS.register_module()
def split_dataset(dataset: Dict, part: str, held_out: Union[float, int], seed: int = 0) -> BaseDataset:
    """A data set without its held-out images (``part='rest'``) or of those alone (``part='held_out'``).

    Raises:
        ConfigError: the data set cannot be divided, or the part would be empty.
    """
    if part not in ('rest', 'held_out'):
        raise ConfigError(f"part={part!r} should be 'rest' or 'held_out'")
    built = CLASSIFICATION_DATASETS.build(dataset)
    whole = built.dataset if isinstance(built, Views) else built
    if not isinstance(whole, (BaseDataset, ReplayableDataset)):
        raise ConfigError(f"a part of a {type(whole).__name__} cannot be held out (only mmengine's BaseDataset can be divided); "
                          "use probe_split='test'")
    chosen = held_out_indices(len(built), held_out, seed)
    if part == 'rest':
        kept = set(chosen)
        chosen = [index for index in range(len(built)) if index not in kept]
    built.get_subset_(chosen)
    return built
