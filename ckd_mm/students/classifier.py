"""What the models here do with an mmpretrain classifier."""

import contextlib
import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..classifier_heads import TwoTokens, logits_module, taught_logits, trainable
from ..compat import compile_in_place
from ..errors import ConfigError
from ..validate import check_one_label


def build_classifier(student: dict | nn.Module, data_preprocessor: dict | None = None) -> nn.Module:
    """From an mmpretrain config, with this data preprocessor if it has none, or a network.

    Raises:
        ConfigError: it has no logits that could be distilled, or several labels an image.
    """
    if isinstance(student, dict):
        student = copy.deepcopy(student)
        if data_preprocessor is not None:
            student.setdefault('data_preprocessor', data_preprocessor)
        from mmpretrain.registry import MODELS as CLASSIFIERS
        student = CLASSIFIERS.build(student)
    logits_module(student)
    return check_one_label('the student', trainable(student))


def compile_classifier(classifier: nn.Module, options: bool | dict) -> None:
    """``torch.compile`` backbone and neck, each by itself; the head stays eager, a hook reads its output.
    Of a classifier without a head it is the children of the ``model`` inside."""
    parts = [getattr(classifier, name, None) for name in ('backbone', 'neck')]
    if isinstance(model := getattr(classifier, 'model', None), nn.Module):
        parts += model.children()
    if options:
        compile_in_place([part for part in parts if isinstance(part, nn.Module)],
                         options if isinstance(options, dict) else {})


def move_keys(state_dict: dict[str, Tensor], prefix: str, parent: str, to: str) -> None:
    """Rename a classifier's keys, below ``prefix``, so that torch's and mmengine's loaders find them below
    ``to``; those below ``parent`` stay."""
    for key in [key for key in state_dict if key.startswith(prefix) and not key.startswith(prefix + parent)]:
        state_dict[prefix + to + key[len(prefix):]] = state_dict.pop(key)


@contextlib.contextmanager
def output_of(head: nn.Module):
    """Outputs of the calls of a head inside the block, where its distillation token answers apart."""
    outputs: list = []
    handle = head.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    if isinstance(head, TwoTokens):
        head.apart = True
    try:
        yield outputs
    finally:
        handle.remove()
        if isinstance(head, TwoTokens):
            head.apart = False


def logits_of(outputs: list, student: nn.Module, choose: Callable = taught_logits) -> Tensor:
    """Logits (N, C) among the outputs of the student's head in a step.

    Args:
        choose: those that learn from teachers; or :func:`predicted_logits`.

    Raises:
        ConfigError: the head was not called once, or returns something else.
    """
    module = logits_module(student)
    logits = choose(outputs[0], module) if len(outputs) == 1 else None
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        found = [tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                 for output in outputs]
        raise ConfigError(f'{type(module).__name__} should be called once a step and return logits (N, '
                          f'C); got {found}')
    return logits


def weighted(losses: dict[str, Tensor | list[Tensor]], weight: float) -> dict[str, Tensor | list[Tensor]]:
    """Losses times ``weight``; 'loss' becomes 'loss_ce', since mmengine logs the sum of all under 'loss'."""

    def scaled(value):
        return [item * weight for item in value] if isinstance(value, (list, tuple)) else value * weight

    return {'loss_ce' if name == 'loss' else name: scaled(value) if 'loss' in name else value
            for name, value in losses.items()}


def are_labelled(data_samples: list) -> bool:
    return all('gt_label' in sample or 'gt_score' in sample for sample in data_samples)


def hard_labels(data_samples: list) -> Tensor:
    """The class of each image, (N,).

    Raises:
        ConfigError: an image has none, several, or shares of classes (mixup, cutmix).
    """
    for sample in data_samples:
        is_mixed, count = 'gt_score' in sample, len(sample.get('gt_label', ()))
        if is_mixed or count != 1:
            found = f'{count or "no"} labels'
            if is_mixed:
                found = 'shares of classes (gt_score, of mixup, cutmix or to_onehot)'
            raise ConfigError(f'the loss needs one label an image, and the batch has {found}; take '
                              'batch_augments and to_onehot out of data_preprocessor, or distil with '
                              'ckd_mm.CohortKDLoss, which needs no labels')
    return torch.cat([sample.gt_label for sample in data_samples])
