"""The data sets of a run, as they are looked at before and between trainings."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS

from ..data.views import random_state_kept
from ..data.wrappers import kind_of
from ..errors import ConfigError


class DataSets:
    """Each is built once: to list ImageNet takes half a minute."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def get(self, config: dict, what: str) -> Any:
        """
        Args:
            what: names it in messages.

        Raises:
            ConfigError: a wrong path, an unknown transform, ...
        """
        if str(config) not in self._built:
            require_own_settings(what, config)
            try:
                self._built[str(config)] = DATASETS.build(copy.deepcopy(config))
            # whatever a constructor says, the user needs to know of which data set
            except Exception as error:
                raise ConfigError(f'{what} cannot be read: {type(error).__name__}: {error}') from error
        return self._built[str(config)]


def require_own_settings(what: str, dataset: Any) -> None:
    """A config that puts another data set where it inherits one in ``ckd_mm.InMemory`` inherits the one
    inside, too.

    Args:
        what: names the data set in messages.
        dataset: its config.

    Raises:
        ConfigError: telling how to write what may have been meant.
    """
    inner = dataset.get('dataset') if isinstance(dataset, dict) else None
    if isinstance(inner, dict) and not _takes(kind_of(dataset), 'dataset'):
        kind = dataset['type'] if isinstance(dataset['type'], str) else dataset['type'].__name__
        raise ConfigError(f'{what}: {kind} takes no `dataset`, but inherits that of ckd_mm.InMemory, of type '
                          f'{inner.get("type")}. Write dataset=dict(dataset=dict(type={kind!r}, ...)) to '
                          f'have {kind} in memory, too, or dataset=dict(_delete_=True, type={kind!r}, ...) '
                          'to inherit nothing')


def _takes(kind: Any, key: str) -> bool:
    """Whether a type of data set has this argument; of an unknown type (None) it is not known."""
    makers = [vars(base).get('__init__')
              for base in inspect.getmro(kind)] if inspect.isclass(kind) else [kind]
    return kind is None or any(key in inspect.signature(maker).parameters
                               for maker in makers if inspect.isfunction(maker))


def image_shape(dataset: Any) -> tuple[int, ...]:
    """(C, H, W) of the first image. Nothing that is drawn at random later changes by it."""
    with random_state_kept():
        return tuple(dataset[0]['inputs'].shape)


def classes_of(dataset: Any) -> Sequence[str] | None:
    """Names in the order of a data set's labels, if it has names."""
    return (getattr(dataset, 'metainfo', None) or {}).get('classes')


def class_names(config: dict) -> Sequence[str] | None:
    """The same of one that is not built yet."""
    kind = kind_of(config)
    if inspect.isclass(kind) and issubclass(kind, BaseDataset):
        # data sets with fixed classes (ImageNet, CIFAR) know them without listing a million files
        classes = classes_of(DATASETS.build(dict(copy.deepcopy(config), lazy_init=True)))
        if classes is not None:
            return classes
    return classes_of(DATASETS.build(copy.deepcopy(config)))
