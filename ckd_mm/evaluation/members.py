"""Accuracy of each teacher of a cohort, and of their ensemble (DIH, Sec. 4.4; ESKD, Table 4)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..teachers.base_cohort import with_predictions
from ..training import as_list, type_name
from ..validate import TEMPERATURE, check_number
from .evaluate import evaluate_predictions, evaluation_parts


def evaluate_members(cohort: nn.Module, config: dict, log: Callable[[str], None] = print) -> dict[str, Any]:
    """Metrics of every teacher of a :class:`ckd_mm.teachers.BaseCohort` and of their ensemble, the mean of
    their probabilities, from one pass over the test set of ``config`` (else the validation set), over all
    processes. ``KDMetric``, which compares a student with its teachers, is left out.

    Returns:
        ``members``: name to metrics, say ``{'head 0': {'accuracy/top1': 71.2}}``; ``ensemble``: metrics. They
        are empty where the config has neither set.
    """
    names, parts, config = cohort.member_names, evaluation_parts(config), {}
    if parts is not None:
        metrics = [metric for metric in as_list(parts[1]) if type_name(metric) != 'KDMetric']
        config = dict(test_dataloader=parts[0], test_evaluator=metrics)

    def predict(batch: dict):
        probabilities, samples = member_probabilities(cohort, batch)
        return (with_predictions(scores, samples) for scores in probabilities)

    *members, ensemble = evaluate_predictions(cohort, predict, len(names) + 1, config, log,
                                              f'{len(names)} teachers and their ensemble')
    return dict(members=dict(zip(names, members)), ensemble=ensemble)


@torch.no_grad()
def member_probabilities(cohort: nn.Module, batch: dict, tau: float = 1.0) -> tuple[Tensor, list]:
    """softmax(logits / tau) of each teacher and, last, their mean, (M + 1, N, C), and the data samples of a
    raw batch. Fig. 2 of DIH takes tau = 10."""
    check_number('tau', tau, **TEMPERATURE)
    data = cohort.data_preprocessor(batch, False)
    scores = (cohort(data['inputs'], mode='tensor').float() / tau).softmax(dim=2)
    return torch.cat([scores, scores.mean(dim=0, keepdim=True)]), data['data_samples']
