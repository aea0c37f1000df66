"""The data sets inside the config of a data set."""

from typing import Any

from mmpretrain.registry import DATASETS as CLASSIFICATION_DATASETS

from .split import split_dataset
from .views import ReplayableDataset


def kind_of(dataset: dict) -> Any:
    """The class or function that ``type`` is, or names with or without a scope; None if there is none."""
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
    """The replayable data set in a config of it or of a part of it; None if there is none."""
    while is_part(dataset):
        dataset = dataset['dataset']
    return dataset if is_replayable(dataset) else None


def undivided(dataset: dict) -> dict:
    """The data set with the pipeline, inside of parts and replayable ones."""
    while is_part(dataset) or is_replayable(dataset):
        dataset = dataset['dataset']
    return dataset
