"""What algorithms do with an mmpretrain classifier."""

import contextlib
import copy

import torch
from torch import Tensor, nn

from ..errors import ConfigError


def build_classifier(student: dict | nn.Module, data_preprocessor: dict | None = None) -> nn.Module:
    """
    Args:
        student: mmpretrain config, or a network that is built already.
        data_preprocessor: for a config that says none itself.

    Raises:
        ConfigError: it has no head whose logits could be distilled.
    """
    if isinstance(student, dict):
        student = copy.deepcopy(student)
        if data_preprocessor is not None:
            student.setdefault('data_preprocessor', data_preprocessor)
        from mmpretrain.registry import MODELS as CLASSIFIERS
        student = CLASSIFIERS.build(student)
    if not isinstance(getattr(student, 'head', None), nn.Module):
        raise ConfigError(f'student of type {type(student).__name__} has no `head` whose logits could be '
                          'distilled')
    return student


def networks_of(classifier: nn.Module) -> list[nn.Module]:
    """The parts worth compiling; the head stays eager, its output is read by a hook."""
    parts = [getattr(classifier, name, None) for name in ('backbone', 'neck')]
    return [part for part in parts if isinstance(part, nn.Module)]


def compile_settings(compile: bool | dict) -> dict | None:
    """Options of ``torch.compile`` from what a config says; None: nothing is compiled."""
    return None if not compile else (dict(compile) if isinstance(compile, dict) else {})


@contextlib.contextmanager
def output_of(module: nn.Module):
    """Outputs of the calls of ``module`` inside the block."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def logits_of(outputs: list, student: nn.Module) -> Tensor:
    """Logits (N, C) among the outputs of the student's head in a step.

    Raises:
        ConfigError: the head was not called once, or returns something else.
    """
    if len(outputs) != 1 or not isinstance(outputs[0], Tensor) or outputs[0].dim() != 2:
        found = [tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                 for output in outputs]
        raise ConfigError(f'{type(student.head).__name__} should be called once a step and return logits (N, '
                          f'C); got {found}')
    return outputs[0]


def weighted(losses: dict[str, Tensor], weight: float) -> dict[str, Tensor]:
    """Losses times ``weight``; 'loss' becomes 'loss_ce', since mmengine logs the sum of all under 'loss'."""
    result = {}
    for name, value in losses.items():
        if 'loss' in name and weight != 1:
            value = [item * weight for item in value] if isinstance(value, (list, tuple)) else value * weight
        result['loss_ce' if name == 'loss' else name] = value
    return result


def hard_labels(data_samples: list) -> Tensor:
    """The class of each image, (N,).

    Raises:
        ConfigError: an image has none, several, or shares of classes (mixup, cutmix).
    """
    for sample in data_samples:
        if 'gt_score' in sample or 'gt_label' not in sample or len(sample.gt_label) != 1:
            what = f'{len(sample.gt_label) if "gt_label" in sample else "no"} labels'
            if 'gt_score' in sample:
                what = 'shares of classes (gt_score, of mixup, cutmix or to_onehot)'
            raise ConfigError(f'the loss needs one label an image, and the batch has {what}; take '
                              'batch_augments and to_onehot out of data_preprocessor, or distil with '
                              'ckd_mm.CohortKDLoss, which needs no labels')
    return torch.cat([sample.gt_label for sample in data_samples])
