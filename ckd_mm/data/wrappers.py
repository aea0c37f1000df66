"""What configs of data sets say about those inside of them."""

from typing import Any

from mmpretrain.registry import DATASETS as CLASSIFICATION_DATASETS

from .split import split_dataset
from .views import ReplayableDataset


def kind_of(dataset: dict) -> Any:
    """The class or function that a config is of, whether it is named, with its scope or with ``_scope_``, or
    is there itself, as in configs in pure Python; None if there is none of this name."""
    kind = dataset.get('type')
    if not isinstance(kind, str):
        return kind
    with CLASSIFICATION_DATASETS.switch_scope_and_registry(dataset.get('_scope_')) as registry:
        return registry.get(kind)


def is_part(dataset: dict) -> bool:
    return kind_of(dataset) is split_dataset


def is_replayable(dataset: dict) -> bool:
    kind = kind_of(dataset)
    return isinstance(kind, type) and issubclass(kind, ReplayableDataset)


def replayable_part(dataset: dict) -> dict | None:
    """The data set with the augmentation in a config, which may be divided further; None if it cannot be
    replayed."""
    while is_part(dataset):
        dataset = dataset['dataset']
    return dataset if is_replayable(dataset) else None


def undivided(dataset: dict) -> dict:
    """The data set in a config that a part (of a part) is of, or that is augmented in another way: the one
    with the pipeline."""
    while is_part(dataset) or is_replayable(dataset):
        dataset = dataset['dataset']
    return dataset
