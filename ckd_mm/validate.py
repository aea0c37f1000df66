"""Bounds of settings: one clear error that names the setting, its value and what was expected."""

import difflib
import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

from .errors import ConfigError


def check_int(name: str, value: Any, at_least: int, unit: str = '') -> int:
    """
    Args:
        unit: follows 'a whole number', say ' of epochs'.

    Raises:
        ConfigError: the value is no whole number, or too small.
    """
    if type(value) is not int or value < at_least:
        raise ConfigError(f'{name}={value!r} should be a whole number{unit}, at least {at_least}')
    return value


def check_number(name: str, value: Any, at_least: float | None = None, above: float | None = None,
                 at_most: float | None = None) -> float:
    """
    Raises:
        ConfigError: the value is no finite number, or out of bounds.
    """
    bounds = [text for limit, text in ((at_least, f'at least {at_least}'), (above, f'above {above}'),
                                       (at_most, f'at most {at_most}')) if limit is not None]
    inside = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) and (
        at_least is None or value >= at_least) and (above is None or value > above) and (
        at_most is None or value <= at_most)
    if not inside:
        raise ConfigError(f'{name}={value!r} should be a finite number' + ''.join(f', {text}'
                                                                                  for text in bounds))
    return value


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """
    Raises:
        ConfigError: the value is none of the choices.
    """
    if value not in choices:
        raise ConfigError(f'{name}={value!r} should be one of {tuple(choices)}')
    return value


def check_bool(name: str, value: Any) -> bool:
    """
    Raises:
        ConfigError: the value is neither True nor False.
    """
    if not isinstance(value, bool):
        raise ConfigError(f'{name}={value!r} should be True or False')
    return value


def check_keys(name: str, found: Any, allowed: Iterable[str]) -> dict:
    """
    Raises:
        ConfigError: ``found`` is no dict, or has a key that means nothing.
    """
    allowed = list(allowed)
    if not isinstance(found, dict):
        raise ConfigError(f'{name}={found!r} should be a dict with keys of {", ".join(allowed)}')
    unknown = [key for key in found if key not in allowed and not key.startswith('_')]
    if unknown:
        meant = difflib.get_close_matches(unknown[0], allowed, n=1)
        raise ConfigError(f'{name}: unknown key {unknown[0]!r}; ' +
                          (f'did you mean {meant[0]!r}? Known' if meant else 'known') +
                          f' are {", ".join(allowed)}')
    return found
