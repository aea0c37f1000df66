"""Evaluate a model once, outside a training run."""

import copy
import math
from collections.abc import Callable, Iterable

import torch
from mmengine.dataset import default_collate
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS as CLASSIFICATION_DATASETS
from torch.utils.data import DataLoader, Subset

from ..errors import ConfigError, SnapshotError
from ..files import plain
from ..progress import Progress
from ..trajectory.snapshot import ACCURACY, Snapshot


def evaluation_parts(config: dict) -> tuple | None:
    """The dataloader and metrics of final numbers: the test set's, else validation's, else None."""
    for name in ('test', 'val'):
        if config.get(f'{name}_dataloader') is not None and config.get(f'{name}_evaluator') is not None:
            return config[f'{name}_dataloader'], config[f'{name}_evaluator']
    return None


def evaluate(model: BaseModel, config: dict, log: Callable[[str], None] = print,
             what: str = 'model') -> dict[str, float]:
    """Metrics of ``model`` on the test set of ``config`` (validation set if it has none), over all processes.

    Returns:
        mmengine's names and values, say ``{'accuracy/top1': 93.1}``; empty where the config has neither set.
    """
    return evaluate_predictions(model, lambda batch: [model.test_step(batch)], 1, config, log, what)[0]


@torch.no_grad()
def evaluate_predictions(model: BaseModel, predict: Callable[[dict], Iterable[list]], count: int,
                         config: dict, log: Callable[[str], None] = print,
                         what: str = 'model') -> list[dict[str, float]]:
    """Metrics of ``count`` predictions of the same images, from one pass over the test set.

    Args:
        model: it is in eval mode and on the device meanwhile.
        predict: the data samples of a batch with each prediction in turn; they may be the same objects.

    Returns:
        For each prediction what :func:`evaluate` returns.
    """
    parts = evaluation_parts(config)
    if parts is None:
        return [{} for _ in range(count)]
    loader = Runner.build_dataloader(copy.deepcopy(parts[0]), seed=0)
    evaluators = [_evaluator(parts[1], loader) for _ in range(count)]
    model = model.to(get_device())
    was_training, progress = model.training, Progress(log, f'Evaluating {what}: batch', len(loader))
    model.eval()
    for batch in loader:
        for evaluator, samples in zip(evaluators, predict(batch)):
            evaluator.process(data_samples=samples, data_batch=batch)
        progress.step()
    model.train(was_training)
    return [{
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in plain(evaluator.evaluate(len(loader.dataset))).items()
    } for evaluator in evaluators]


def _evaluator(metrics: dict | list, loader: DataLoader) -> Evaluator:
    metrics = copy.deepcopy(metrics)
    evaluator = Evaluator(metrics if isinstance(metrics, list) else [metrics])
    evaluator.dataset_meta = getattr(loader.dataset, 'metainfo', None)
    return evaluator


def top1(metrics: dict[str, float]) -> float | None:
    """Top-1 accuracy in percent, where the config measures it."""
    return metrics.get(ACCURACY)


@torch.no_grad()
def check_recorded_accuracy(snapshot: Snapshot, config: dict, num_images: int = 512) -> float | None:
    """Whether a teacher is about as good as its manifest records, before anything is trained.

    The rebuilt network classifies some validation images, spread over the whole set: wrong input statistics,
    a wrong channel order or classes in another order show as an accuracy far below the recorded one.

    Returns:
        Accuracy in percent on these images; None without a recorded accuracy or a validation set.

    Raises:
        SnapshotError: it is lower than chance and sampling allow.
    """
    loader = config.get('val_dataloader') or config.get('test_dataloader')
    if snapshot.accuracy is None or loader is None:
        return None
    dataset = CLASSIFICATION_DATASETS.build(copy.deepcopy(loader['dataset']))
    count = min(num_images, len(dataset))
    rows = [index * len(dataset) // count for index in range(count)]
    network, right = snapshot.build().to(get_device()), 0
    for batch in DataLoader(Subset(dataset, rows), batch_size=64, collate_fn=default_collate):
        labels = [int(sample.gt_label.reshape(-1)[0]) for sample in batch['data_samples']]
        found = network.test_step(batch)
        right += sum(int(sample.pred_label) == label for sample, label in zip(found, labels))
    measured, recorded = right / count, snapshot.accuracy / 100
    tolerance = 0.03 + 4 * math.sqrt(max(recorded * (1 - recorded), 0.01) / count)
    if measured < recorded - tolerance:
        raise SnapshotError(
            f'snapshot {snapshot} classifies {100 * measured:.1f} % of {count} validation images rightly, '
            f'but its manifest records {100 * recorded:.1f} %. Are the validation images, the class order '
            'and the data_preprocessor (mean, std, to_rgb) those it was trained with?')
    return 100 * measured


def require_same_classes(snapshot: Snapshot, classes, source: str) -> None:
    """
    Raises:
        ConfigError: teacher and student give their logits other meanings.
    """
    if snapshot.classes is None or classes is None:
        return
    ours, theirs = tuple(classes), tuple(snapshot.classes)
    if ours == theirs:
        return
    if len(ours) != len(theirs):
        raise ConfigError(f'teacher {snapshot} knows {len(theirs)} classes, the student learns {len(ours)} '
                          f'({source}); distillation of logits needs the same classes')
    place = next(index for index, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1])
    same = 'the same classes in another order' if sorted(ours) == sorted(theirs) else 'other classes'
    raise ConfigError(f'teacher and student have {same}: class {place} is {theirs[place]!r} for the teacher '
                      f'{snapshot} and {ours[place]!r} for the student ({source}). Sort them alike, say with '
                      '`classes` of the data set')
