"""Evaluate a model once, outside a training run."""

import copy
from collections.abc import Callable, Iterable

import torch
from mmengine.device import get_device
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmpretrain.evaluation import Accuracy
from mmpretrain.registry import METRICS

from ..data.damaged import name_damaged
from ..data.few_images import few_images
from ..files import plain
from ..progress import Progress
from ..training import as_list
from ..trajectory.snapshot import ACCURACY


def evaluation_parts(config: dict) -> tuple | None:
    """The dataloader and metrics of final numbers: the test set's, else validation's, else None."""
    for name in ('test', 'val'):
        if config.get(f'{name}_dataloader') is not None and config.get(f'{name}_evaluator') is not None:
            return config[f'{name}_dataloader'], config[f'{name}_evaluator']
    return None


def evaluate(model: BaseModel, config: dict, log: Callable[[str], None] = print,
             what: str = 'model', few: bool = False) -> dict[str, float]:
    """Metrics of ``model`` on the test set of ``config`` (validation set if it has none), over all processes,
    say ``{'accuracy/top1': 93.1}``; empty where the config has neither set.

    Args:
        few: on a few images only.
    """
    return evaluate_predictions(model, lambda batch: [model.test_step(batch)], 1, config, log, what, few)[0]


@torch.no_grad()
def evaluate_predictions(model: BaseModel, predict: Callable[[dict], Iterable[list]], count: int,
                         config: dict, log: Callable[[str], None] = print,
                         what: str = 'model', few: bool = False) -> list[dict[str, float]]:
    """Metrics, as of :func:`evaluate`, of ``count`` predictions of the same images, from one pass over the
    test set.

    Args:
        model: in eval mode and on the device meanwhile.
        predict: the data samples of a batch with each prediction in turn; they may be the same objects.
    """
    parts = evaluation_parts(config)
    if parts is None:
        return [{} for _ in range(count)]
    loader = Runner.build_dataloader(copy.deepcopy(parts[0]), seed=0)
    name_damaged(loader.dataset)
    loader = few_images(loader) if few else loader
    evaluators = [Evaluator(as_list(copy.deepcopy(parts[1]))) for _ in range(count)]
    model = model.to(get_device())
    was_training, progress = model.training, Progress(log, f'Evaluating {what}: batch', len(loader))
    model.eval()
    for evaluator in evaluators:
        evaluator.dataset_meta = getattr(loader.dataset, 'metainfo', None)
    for batch in loader:
        for evaluator, samples in zip(evaluators, predict(batch)):
            evaluator.process(data_samples=samples, data_batch=batch)
        progress.step()
    model.train(was_training)
    found = [plain(evaluator.evaluate(len(loader.dataset))) for evaluator in evaluators]
    return [{name: round(value, 4) if isinstance(value, float) else value for name, value in metrics.items()}
            for metrics in found]


def gives_top1(metric: dict) -> bool:
    """Whether the config of a metric measures :data:`ACCURACY`; of a metric of somebody's own, whether its
    prefix says so."""
    kind = METRICS.get(metric['type']) if isinstance(metric['type'], str) else metric['type']
    if kind is Accuracy and (1 not in as_list(metric.get('topk', 1)) or len(as_list(metric.get('thrs'))) > 1):
        return False
    return f'{metric.get("prefix") or getattr(kind, "default_prefix", None)}/top1' == ACCURACY


def top1(metrics: dict[str, float]) -> float | None:
    """Top-1 accuracy in percent, where the config measures it."""
    return metrics.get(ACCURACY)
