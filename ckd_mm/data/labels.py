"""What the labels of data sets mean."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from ..errors import ConfigError, reading
from ..validate import ONE_LABEL
from .views import random_state_kept

SOME = 1000  # images


def classes_of(dataset: Any) -> Sequence[str] | None:
    """Names in the order of a data set's labels, if it has names."""
    return (getattr(dataset, 'metainfo', None) or {}).get('classes')


def folders_of(dataset: Any) -> Sequence[str] | None:
    """The folders whose places in alphabetical order are the labels, if they are, whatever the classes are
    called."""
    return getattr(dataset, 'folder_to_idx', None)


def labels_of(dataset: Any, count: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """The number of an image and its labels (L,), as a rule one, without reading it: of all images, or at
    most of so many, from the first to the last (a million take half a minute); of none where a data set of
    somebody's own does not tell them."""
    if not hasattr(dataset, 'get_data_info'):
        return
    total = len(dataset)
    for index in np.linspace(0, total - 1, min(count or total, total)).round().astype(int):
        info = dataset.get_data_info(int(index))
        yield int(index), np.atleast_1d(np.asarray(info.get('gt_label', []), dtype=np.int64))


def require_labels(source: str, dataset: Any, why: str) -> str:
    """Raises ConfigError where the first, middle or last image comes without a label, or cannot be read.

    Args:
        why: what needs it.
    """
    with random_state_kept():
        for index in {0, len(dataset) // 2, len(dataset) - 1}:
            with reading(f'{source}: image {index} cannot be read'):
                sample = dataset[index].get('data_samples')  # None: a rehearsal says how to pack it
            if sample is not None and 'gt_label' not in sample and 'gt_score' not in sample:
                raise ConfigError(f'{source}: image {index} has no label, which {why}')
    return 'there'


def require_same_classes(source: str, classes: Sequence[str] | None, other_source: str,
                         other_classes: Sequence[str] | None,
                         remedy: str = 'Give the `classes` of both in one order') -> None:
    """Raises ConfigError if labels have other meanings in two data sets or networks, as far as both know the
    names of their classes.

    Args:
        source: names the owner of the classes: 'train_dataloader.dataset'.
    """
    if None in (classes, other_classes) or tuple(classes) == tuple(other_classes):
        return
    ours, theirs = tuple(classes), tuple(other_classes)
    place, (our, their) = next((place, pair) for place, pair in enumerate(zip_longest(ours, theirs))
                               if pair[0] != pair[1])
    what = f'{len(ours)} and {len(theirs)} classes' if len(ours) != len(theirs) else \
        'the same classes in another order' if sorted(ours) == sorted(theirs) else 'other classes'
    raise ConfigError(f'class {place} is {our!r} in {source} and {their!r} in {other_source} ({what}), so '
                      f'a label means two things. {remedy}')


def require_same_labels(source: str, dataset: Any, other_source: str, other: Any) -> None:
    """The same of two data sets. Folders decide, where both have them: what classes are called changes no
    label."""
    if None not in (folders_of(dataset), folders_of(other)):
        require_same_classes(source, folders_of(dataset), other_source, folders_of(other),
                             'Labels number the folders in alphabetical order: name folders alike')
    else:
        require_same_classes(source, classes_of(dataset), other_source, classes_of(other))


def require_labels_below(num_classes: int, source: str, dataset: Any, one_label: bool) -> None:
    """Raises ConfigError if the data set has more classes than the head, as far as it names them, or labels
    of none (of classes with names only some are looked at).

    Args:
        one_label: of each image.
    """
    classes = folders_of(dataset) or classes_of(dataset)
    if classes is not None and len(classes) > num_classes:
        used = {int(label) for _, labels in labels_of(dataset) for label in labels}
        empty = [name for label, name in enumerate(classes) if label not in used]
        hint = f'. The class folder(s) {", ".join(map(repr, empty[:3]))} hold no images' if empty else ''
        raise ConfigError(f'{source} has {len(classes)} classes and model.head.num_classes={num_classes}'
                          f'{hint}: {_in_short(classes)}. Remove what is no class, or change num_classes')
    if folders_of(dataset) is not None:
        return  # a label is the place of a folder
    for index, labels in labels_of(dataset, None if classes is None else SOME):
        if one_label and len(labels) > 1:
            raise ConfigError(f'{source}: image {index} has the labels {labels.tolist()}: {ONE_LABEL}')
        if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
            raise ConfigError(f'{source}: image {index} has label {labels.tolist()}, but labels go from 0 to '
                              f'{num_classes - 1} (model.head.num_classes={num_classes})')


def _in_short(classes: Sequence[str]) -> str:
    names = list(map(str, classes))
    return ', '.join(names if len(names) <= 5 else [*names[:3], '...', names[-1]])
