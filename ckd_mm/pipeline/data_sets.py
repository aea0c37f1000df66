"""What data sets and their configs say, before anything is trained."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS

from ..data.views import random_state_kept
from ..data.wrappers import kind_of
from ..errors import ConfigError


def require_own_settings(what: str, dataset: Any) -> None:
    """A config that puts another data set where it inherits one in ``ckd_mm.InMemory`` inherits the one
    inside, too: raises ConfigError, telling how to write what may have been meant."""
    inner = dataset.get('dataset') if isinstance(dataset, dict) else None
    if isinstance(inner, dict) and not _takes_dataset(kind_of(dataset)):
        kind = dataset['type'] if isinstance(dataset['type'], str) else dataset['type'].__name__
        raise ConfigError(f'{what}: {kind} takes no `dataset`, but inherits that of ckd_mm.InMemory, of type '
                          f'{inner.get("type")}. Write dataset=dict(dataset=dict(type={kind!r}, ...)) to '
                          f'have {kind} in memory, too, or dataset=dict(_delete_=True, type={kind!r}, ...) '
                          'to inherit nothing')


def _takes_dataset(kind: Any) -> bool:
    """Whether a type of data set has an argument ``dataset``; True if the type (None) is unknown."""
    makers = [vars(base).get('__init__') for base in kind.__mro__] if inspect.isclass(kind) else [kind]
    return kind is None or any('dataset' in inspect.signature(maker).parameters
                               for maker in makers if inspect.isfunction(maker))


def image_shape(dataset: Any) -> tuple[int, ...]:
    """(C, H, W) of the first image; random numbers drawn later do not change by it."""
    with random_state_kept():
        return tuple(dataset[0]['inputs'].shape)


def classes_of(dataset: Any) -> Sequence[str] | None:
    """Names in the order of a data set's labels, if it has names."""
    return (getattr(dataset, 'metainfo', None) or {}).get('classes')


def class_names(config: dict) -> Sequence[str] | None:
    """The same of a data set that is not built yet."""
    kind, classes = kind_of(config), None
    if inspect.isclass(kind) and issubclass(kind, BaseDataset):
        # data sets with fixed classes (ImageNet, CIFAR) know them without listing a million files
        classes = classes_of(DATASETS.build(dict(copy.deepcopy(config), lazy_init=True)))
    return classes_of(DATASETS.build(copy.deepcopy(config))) if classes is None else classes
