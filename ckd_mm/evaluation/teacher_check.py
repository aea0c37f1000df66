"""Whether a teacher that exists says the right things of validation images."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.dataset import default_collate
from mmengine.device import get_device
from mmpretrain.registry import MODELS
from torch import nn

from ..data.views import random_state_kept
from ..errors import SnapshotError, in_a_line
from ..progress import Progress
from ..teachers.class_map import ClassMap, RestrictedNetwork
from ..training import type_name
from ..trajectory import Snapshot
from .answers import FEWEST_IMAGES, SMALLEST_GAIN, Answers, halves_errors, is_better, reordered

KIND = dict(type='ClsDataPreprocessor')  # mmpretrain's default
KNOWN = (KIND['type'], 'ResizeDataPreprocessor')  # types whose statistics are tried
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
PIXELS = {'pixels from 0 to 1': dict(mean=[0.0], std=[255.0]),
          'pixels from -1 to 1': dict(mean=[127.5], std=[127.5]),
          'pixels from 0 to 255': dict(mean=None, std=None)}


class ValidationImages:
    """Some images of a data set with their labels, drawn by a fixed seed and read once.

    Args:
        dataset: with one label an image; others are left out.
        class_map: of teachers of other classes; images of classes that they lack are left out.
    """
    BATCH = 64

    def __init__(self, dataset: Any, count: int = 512, log: Callable[[str], None] = print,
                 class_map: ClassMap | None = None) -> None:
        generator, items = torch.Generator().manual_seed(0), []
        # in any order: data sets are often sorted by class, and some batches should stand for all
        rows = torch.randperm(len(dataset), generator=generator)[:count].tolist()
        progress = Progress(log, 'Reading validation image', len(rows))
        with random_state_kept():
            for row in rows:
                item = dataset[row]
                if len(item['data_samples'].get('gt_label', ())) == 1:
                    items.append(item)
                progress.step()
        self.class_map, labels = class_map, [int(item['data_samples'].gt_label) for item in items]
        if class_map is not None and class_map.shared is not None:
            place = {label: index for index, label in enumerate(class_map.shared)}
            items = [item for item, label in zip(items, labels) if label in place]
            labels = [place[label] for label in labels if label in place]
        self.labels = torch.tensor(labels, dtype=torch.long)
        self.batches = [default_collate(items[start:start + self.BATCH])
                        for start in range(0, len(items), self.BATCH)]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        return self.batches[0]['inputs'].shape[1]

    def network(self, snapshot: Snapshot) -> nn.Module:
        """Of a snapshot, which answers in the classes of the labels."""
        network = snapshot.build()
        return network if self.class_map is None else RestrictedNetwork(
            network, self.class_map.columns(snapshot.classes, f'snapshot {snapshot}'))

    @torch.no_grad()
    def answers(self, network: nn.Module, preprocessor: nn.Module | None = None,
                batches: int | None = None) -> Answers:
        """Of a network in eval mode, to the first ``batches``; by default with its own data preprocessor."""
        network, preprocessor = network.to(get_device()), preprocessor or network.data_preprocessor
        logits = [network(preprocessor.to(get_device())(batch, False)['inputs'], mode='tensor').float().cpu()
                  for batch in self.batches[:batches]]
        logits = torch.cat(logits)
        return Answers(logits, self.labels[:len(logits)])


def check_teacher(snapshot: Snapshot, images: ValidationImages, statistics: dict | None,
                  warn: Callable[[str], None]) -> Answers:
    """The answers of a snapshot, whose files, classes and input statistics are right as far as they show.

    Args:
        statistics: the student's ``data_preprocessor``.
        warn: takes what is only suspicious.

    Raises:
        SnapshotError: its logits are not finite, its classes are in another order than the labels, its inputs
            are normalised in another way than it was trained with, or it is further below its recorded
            accuracy than sampling explains.
    """
    network = images.network(snapshot)
    answers = recorded_answers(snapshot, images, network)
    below, order = is_below_record(snapshot, answers), reordered(answers)
    if order is not None:
        message = (f'snapshot {snapshot} has its classes in another order than the labels: it is right on '
                   f'{percent(order.before)} of the validation images as it is, and on '
                   f'{percent(order.accuracy)} if its classes are renamed; what it calls class '
                   f'{order.predicted} is mostly labelled {order.label}. Sort the classes of the data sets '
                   'as it learnt them, say with `classes`')
        if below or order.is_certain:
            raise SnapshotError(message)
        warn(message)
    if below or snapshot.accuracy is None:
        better = better_statistics(snapshot, network, images, answers, statistics)
        if better is not None:
            message = (f'snapshot {snapshot} is right on {percent(answers.accuracy)} of {len(images)} '
                       f'validation images{recorded(snapshot)}, and with {better.text} on '
                       f'{percent(better.accuracy)}. Give the data_preprocessor that it was trained with, '
                       'say as teacher.model.data_preprocessor')
            if below or better.is_certain:
                raise SnapshotError(message)
            warn(message)
    require_recorded(snapshot, answers)
    return answers


def recorded_answers(snapshot: Snapshot, images: ValidationImages, network: nn.Module,
                     batches: int | None = None) -> Answers:
    """To the first ``batches``. Raises SnapshotError if logits are not finite, or not of the classes of the
    labels."""
    try:
        answers = images.answers(network, batches=batches)
    except Exception as error:  # networks assert, view, ...
        shape = tuple(images.batches[0]['inputs'].shape[1:])
        raise SnapshotError(f'snapshot {snapshot} cannot answer for images {shape}: {in_a_line(error)}. If '
                            'it needs another size, say teacher.input_size') from error
    if not torch.isfinite(answers.logits).all():
        raise SnapshotError(f'snapshot {snapshot} gives logits that are not finite (NaN or infinity) for '
                            'validation images: its training had diverged, or its data_preprocessor is not '
                            'the one that it was trained with')
    highest = int(answers.labels.max()) if len(images) else 0
    if highest >= answers.logits.shape[1]:
        raise SnapshotError(f'snapshot {snapshot} has {answers.logits.shape[1]} classes, and a validation '
                            f'image has label {highest}; use a teacher of the same classes')
    return answers


def is_below_record(snapshot: Snapshot, answers: Answers) -> bool:
    if snapshot.accuracy is None:
        return False
    expected = snapshot.accuracy / 100
    return answers.accuracy < expected - 0.03 - 4 * math.sqrt(
        max(expected * (1 - expected), 0.01) / len(answers.labels))


def require_recorded(snapshot: Snapshot, answers: Answers) -> None:
    """Raises SnapshotError if the accuracy is further below the recorded one than sampling explains."""
    if is_below_record(snapshot, answers):
        raise SnapshotError(
            f'snapshot {snapshot} classifies {percent(answers.accuracy)} of {len(answers.labels)} validation '
            f'images rightly, but its manifest records {snapshot.accuracy:.1f} %. Are the validation images, '
            'the class order and the data_preprocessor (mean, std, to_rgb) those it was trained with?')


def require_above_chance(found: Sequence[tuple[Snapshot, Answers]], warn: Callable[[str], None],
                         surely: bool) -> None:
    """One of several teachers has to know something: a member of an ensemble may be young.

    Args:
        warn: takes it where the manifest says the same, so that images, classes and statistics seem to be
            right, and on few images.
        surely: they will teach; else it is only a warning, too.

    Raises:
        SnapshotError: all are at chance, and no manifest says so.
    """
    if not found or not all(answers.are_chance for _, answers in found):
        return
    snapshot, answers = max(found, key=lambda pair: pair[1].accuracy)
    how = 'its logits are the same for all images' if answers.are_constant else (
        f'it is right on {percent(answers.accuracy)} of {len(answers.labels)} validation '
        f'images{recorded(snapshot)}')
    message = (f'snapshot {snapshot} is at chance ({percent(answers.chance)}): {how}. A student learns '
               'nothing from it; choose another snapshot (selector), or find out whether images, class '
               'order and data_preprocessor are those that it was trained with')
    if surely and snapshot.accuracy is None and len(answers.labels) >= 3 * FEWEST_IMAGES:
        raise SnapshotError(message)
    warn(message)


# ------------------------------------------------------------ normalisation
@dataclass(frozen=True)
class Better:
    """Input statistics with which a teacher is more often right; certain if they halve its errors."""
    text: str
    accuracy: float
    is_certain: bool


def better_statistics(snapshot: Snapshot, network: nn.Module, images: ValidationImages, answers: Answers,
                      statistics: dict | None) -> Better | None:
    """The best of other usual input statistics: on some images all of them, on all images the best. Of those
    that are about as good it is the first, which explains most."""
    own = dict((snapshot.model or {}).get('data_preprocessor') or {})
    if 1 - answers.accuracy < SMALLEST_GAIN or type_name(dict(KIND, **own)) not in KNOWN:
        return None
    best, found = None, answers.right[:2 * ValidationImages.BATCH]
    for text, other in other_statistics(own, statistics or {}):
        if len(other['mean'] or [0]) not in (1, images.channels):
            continue
        right = images.answers(network, build_preprocessor(other), batches=2).right
        if int(right.sum()) > int(found.sum()) + (0 if best is None else SMALLEST_GAIN * len(found)):
            best, found = (text, other), right
    if best is None:
        return None
    right = images.answers(network, build_preprocessor(best[1])).right
    if not is_better(right, answers.right):
        return None
    return Better(best[0], right.double().mean().item(), halves_errors(right, answers.right))


def other_statistics(own: dict, student: dict) -> Iterator[tuple[str, dict]]:
    """Usual input statistics that are not a teacher's own, with what a message calls them."""
    pixels, to_rgb = {key: own.get(key) for key in ('mean', 'std')}, bool(own.get('to_rgb'))
    known = {'': pixels}
    if isinstance(own.get('mean'), (list, tuple)) and isinstance(own.get('std'), (list, tuple)):
        known['mean and std times 255'] = {key: [255 * value for value in values]
                                           for key, values in pixels.items()}
        known['mean and std reversed'] = {key: list(values)[::-1] for key, values in pixels.items()}
    known |= {"the student's data_preprocessor": {key: student.get(key) for key in pixels},
              "ImageNet's mean and std": IMAGENET, **PIXELS}
    seen = [(pixels, to_rgb)]
    for name, values in known.items():
        for flag in (to_rgb, not to_rgb):
            if (values, flag) not in seen:
                seen.append((values, flag))
                text = ' and '.join(filter(None, (name, '' if flag == to_rgb else f'to_rgb={flag}')))
                numbers = '' if not name or values['mean'] is None else ' (mean={mean}, std={std})'.format(
                    **values)
                yield text + numbers, dict(own, **values, to_rgb=flag)


def build_preprocessor(config: dict) -> nn.Module:
    """Without mixing images."""
    config = {key: value for key, value in copy.deepcopy(config).items()
              if key not in ('batch_augments', 'to_onehot')}
    return MODELS.build(dict(KIND, **config))


def percent(share: float) -> str:
    return f'{100 * share:.1f} %'


def recorded(snapshot: Snapshot) -> str:
    return '' if snapshot.accuracy is None else f' (recorded {snapshot.accuracy:.1f} %)'
