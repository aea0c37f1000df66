"""The data sets of a run, as they are looked at before and between trainings."""

import copy
import inspect
from typing import Any, Dict, Optional, Sequence, Tuple

from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS

from ..datasets.views import random_state_kept
from ..errors import ConfigError


class DataSets:
    """Each is built once: to list ImageNet takes half a minute."""

    def __init__(self) -> None:
        self._built: Dict[str, Any] = {}

    def get(self, config: Dict, what: str) -> Any:
        """
        Args:
            what: names it in messages.

        Raises:
            ConfigError: a wrong path, an unknown transform, ...
        """
        if str(config) not in self._built:
            try:
                self._built[str(config)] = DATASETS.build(copy.deepcopy(config))
            except Exception as error:  # whatever a constructor says, the user needs to know of which data set
                raise ConfigError(f'{what} cannot be read: {type(error).__name__}: {error}') from error
        return self._built[str(config)]


def image_shape(dataset: Any) -> Tuple[int, ...]:
    """(C, H, W) of the first image. Nothing that is drawn at random later changes by it."""
    with random_state_kept():
        return tuple(dataset[0]['inputs'].shape)


def class_names(config: Dict) -> Optional[Sequence[str]]:
    """Names in the order of a data set's labels, if it has names."""
    kind = DATASETS.get(config['type']) if isinstance(config['type'], str) else config['type']
    if inspect.isclass(kind) and issubclass(kind, BaseDataset):
        # data sets with fixed classes (ImageNet, CIFAR) know them without listing a million files
        classes = DATASETS.build(dict(copy.deepcopy(config), lazy_init=True)).metainfo.get('classes')
        if classes is not None:
            return classes
    dataset = DATASETS.build(copy.deepcopy(config))
    return (getattr(dataset, 'metainfo', None) or {}).get('classes')
