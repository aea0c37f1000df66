"""Checks of settings: each returns the value, or raises a ConfigError with name, value and expectation."""

import difflib
import math
import operator
from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from .errors import ConfigError

ONE_LABEL = ('networks are compared here by the softmax of their logits, for images of one label. Several '
             'labels of an image, each with a sigmoid of its own, would need other losses, ensembles, '
             'selectors and metrics, which ckd_mm lacks; use a head of one label, say LinearClsHead')


# bounds beyond which a loss is lost in rounding, or loses all others
TEMPERATURE = dict(at_least=0.01, at_most=1000)
WEIGHT = dict(at_least=0, at_most=1e6)


def check_int(name: str, value: Any, at_least: int, unit: str = '') -> int:
    """
    Args:
        unit: follows 'a whole number' in the message, say ' of epochs'.
    """
    if type(value) is not int or value < at_least:
        raise ConfigError(f'{name}={value!r} should be a whole number{unit}, at least {at_least}')
    return value


def check_number(name: str, value: Any, at_least: float | None = None, above: float | None = None,
                 at_most: float | None = None) -> float:
    bounds = [bound for bound in ((at_least, 'at least', operator.ge), (above, 'above', operator.gt),
                                  (at_most, 'at most', operator.le)) if bound[0] is not None]
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value) or not all(
            holds(value, limit) for limit, _, holds in bounds):
        raise ConfigError(f'{name}={value!r} should be a finite number' +
                          ''.join(f', {text} {limit}' for limit, text, _ in bounds))
    return value


def check_any(name: str, **weights: float) -> None:
    """Raises ConfigError where these weights of losses are all 0."""
    if not any(weights.values()):
        raise ConfigError(' and '.join(f'{name}.{key}={value}' for key, value in weights.items())
                          + ': nothing is left to learn from; one of them should be above 0')


def check_part(name: str, value: Any) -> float | int:
    """Of images."""
    if type(value) not in (int, float) or not (value >= 1 if type(value) is int else 0 < value < 1):
        raise ConfigError(f'{name}={value!r} should be a fraction between 0 and 1, or a whole number of '
                          'images')
    return value


def meant(word: str, known: Iterable[str]) -> str:
    """The end of a message: which of the known words come near; '' if none does."""
    close = difflib.get_close_matches(word, list(known), n=3)
    return f'; did you mean {" or ".join(close)}?' if close else ''


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> Any:
    if value not in choices:
        raise ConfigError(f'{name}={value!r} should be one of {tuple(choices)}')
    return value


def check_bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f'{name}={value!r} should be True or False')
    return value


def check_dict(name: str, value: Any, example: str) -> dict:
    if not isinstance(value, dict):
        raise ConfigError(f'{name}={value!r} should be a dict, say {example}')
    return value


def check_inside(name: str, value: str | Path) -> str | Path:
    """A path that a file names relative to its own folder: by its text, which links may lead anywhere."""
    if Path(value).is_absolute() or '..' in Path(value).parts:
        raise ConfigError(f'{name}={str(value)!r} should be a path that stays below the folder of its file')
    return value


def check_keys(name: str, found: Any, allowed: Iterable[str]) -> dict:
    """A dict with no other keys than these; those that begin with an underscore are mmengine's."""
    allowed = list(allowed)
    if not isinstance(found, dict):
        raise ConfigError(f'{name}={found!r} should be a dict with keys of {", ".join(allowed)}')
    unknown = [key for key in found if key not in allowed and not key.startswith('_')]
    if unknown:
        meant = difflib.get_close_matches(unknown[0], allowed, n=1)
        hint = f'did you mean {meant[0]!r}? Known' if meant else 'known'
        raise ConfigError(f'{name}: unknown key {unknown[0]!r}; {hint} are {", ".join(allowed)}')
    return found


def check_one_label(name: str, network: Any) -> Any:
    """A network whose head does not predict several labels of an image."""
    from mmpretrain.models import MultiLabelClsHead
    head = getattr(network, 'head', None)
    if isinstance(head, MultiLabelClsHead):
        raise ConfigError(f'{name} has a {type(head).__name__}: {ONE_LABEL}')
    return network
