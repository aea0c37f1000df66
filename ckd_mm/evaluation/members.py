"""How good each teacher of a cohort is, and all together (DIH, Sec. 4.4; ESKD, Table 4)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..teachers.base_cohort import with_predictions
from ..validate import check_number
from .evaluate import evaluate_predictions, evaluation_parts


def evaluate_members(cohort: nn.Module, config: dict, log: Callable[[str], None] = print,
                     names: Sequence[str] | None = None) -> dict[str, Any]:
    """Metrics of every teacher and of their ensemble, the mean of their probabilities, from one pass over the
    test set of ``config`` (else the validation set), over all processes.

    Args:
        cohort: a :class:`ckd_mm.teachers.BaseCohort`; or a model with ``member_names`` that returns logits
            (M, N, C).
        names: of the teachers, in the order of their logits; default: the cohort's own.

    Returns:
        ``members``: name to metrics, in mmengine's words, say ``{'head 0': {'accuracy/top1': 71.2}}``;
        ``ensemble``: metrics. Metrics are empty where the config has neither set; ``KDMetric`` is left out.

    Raises:
        ConfigError: ``names`` are not one a teacher, or not all different.
    """
    names = list(names or cohort.member_names)
    if len(set(names)) != len(names):
        raise ConfigError(f'names={names} of the members should differ from each other')
    *members, ensemble = evaluate_predictions(cohort, lambda batch: _predictions(cohort, batch, names),
                                              len(names) + 1, without_teacher_metrics(config), log,
                                              f'{len(names)} teachers and their ensemble')
    return dict(members=dict(zip(names, members)), ensemble=ensemble)


@torch.no_grad()
def member_probabilities(cohort: nn.Module, batch: dict, tau: float = 1.0) -> tuple[Tensor, list]:
    """softmax(logits / tau) of each teacher and, last, their mean: (M + 1, N, C); and the batch's data
    samples.

    Args:
        batch: raw images and data samples, as a dataloader gives them.
        tau: temperature; Fig. 2 of DIH takes 10.
    """
    check_number('tau', tau, above=0)
    data = cohort.data_preprocessor(batch, False)
    scores = (cohort(data['inputs'], mode='tensor').float() / tau).softmax(dim=2)
    return torch.cat([scores, scores.mean(dim=0, keepdim=True)]), data['data_samples']


def _predictions(cohort: nn.Module, batch: dict, names: Sequence[str]) -> Iterator[list]:
    probabilities, samples = member_probabilities(cohort, batch)
    if len(probabilities) != len(names) + 1:
        raise ConfigError(f'names={list(names)} of the members should be {len(probabilities) - 1}, one for '
                          'each teacher')
    for scores in probabilities:
        yield with_predictions(scores, samples)


def without_teacher_metrics(config: dict) -> dict:
    """The test set of ``config`` and its metrics, but for those that compare a student with its teacher."""
    parts = evaluation_parts(config)
    if parts is None:
        return {}
    loader, metrics = parts
    listed: list[dict] = list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]
    return dict(
        test_dataloader=loader,
        test_evaluator=[metric for metric in listed if str(metric.get('type')).split('.')[-1] != 'KDMetric'])
