"""Results on disk: JSON of a named format, with the settings that made it; and where two settings differ."""

import inspect
import math
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .errors import CkdError, ConfigError, reading
from .files import plain, read_json
from .settings import Settings
from .validate import check_dict

# where files are, or how fast they are read and computed, which no result depends on
NO_RESULT = ('data_root', 'out_dir', 'trajectory', 'compile', 'num_workers', 'persistent_workers',
             'pin_memory', 'prefetch_factor')


def flatten(value: Any) -> dict[str, Any]:
    """Nested dicts and lists as ``{'a.b.0': value}``, without :data:`NO_RESULT`."""
    return _flat(plain(value), '')


def _flat(value: Any, prefix: str) -> dict[str, Any]:
    if not isinstance(value, (dict, list)):
        return {prefix: value}
    result: dict[str, Any] = {}
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if key not in NO_RESULT:
            result.update(_flat(item, f'{prefix}.{key}' if prefix else str(key)))
    return result


def differences(before: dict, now: dict) -> list[str]:
    """Where two results of :func:`flatten` differ, each as 'key was x, now y'."""
    return [f'{key} was {before.get(key)!r}, now {now.get(key)!r}' for key in sorted({*before, *now})
            if before.get(key) != now.get(key)]


def listed(changed: list[str]) -> str:
    """The first three :func:`differences`, and how many more there are."""
    return '; '.join(changed[:3]) + (f' (and {len(changed) - 3} more)' if len(changed) > 3 else '')


def read_record(path: str | Path, format: str, what: str, remedy: str = 'Move it away',
                facts: type[Settings] | None = None) -> dict[str, Any]:
    """The JSON file at ``path``, whose ``"format"`` must be ``format``.

    Args:
        what: the file should be, say 'table of scores'.
        remedy: the way out, for the message.
        facts: what may stand in it.

    Raises:
        CkdError: it is missing, damaged, or another kind of file.
    """
    found = read_json(path, remedy)
    says = found.get('format') if isinstance(found, dict) else None
    if says != format:
        raise CkdError(f'{path} is no {what}: its "format" is {says!r}, expected {format!r}. {remedy}')
    if facts is not None:
        try:
            facts.read('', found)
        except ConfigError as error:
            raise CkdError(f'{path} is damaged: {error}. {remedy}') from error
    return found


def read_as(kind: type, name: str, found: Any) -> Any:
    """A dataclass from its dict in a file. Fields are checked by their annotations, but not what lists and
    dicts hold.

    Args:
        name: of the dict, for messages.

    Raises:
        ConfigError: a field is missing, unknown or of another type.
    """
    for key, annotation in get_type_hints(kind).items():
        wanted = get_args(annotation) if isinstance(annotation, UnionType) else [annotation]
        if key in check_dict(name, found, 'dict(...)') and not any(_is(found[key], one) for one in wanted):
            raise ConfigError(f'{name}.{key}={found[key]!r} should be {inspect.formatannotation(annotation)}')
    with reading(name):
        return kind(**found)


def _is(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    if kind in (int, bool):
        return type(value) is kind
    return kind is Any or isinstance(value, get_origin(kind) or kind)


def require_same_settings(path: str | Path, before: dict, now: dict, made: str, away: str | Path) -> None:
    """
    Args:
        before, now: the settings that made the rows at ``path``, and those of the rows to come.
        made: how rows come about: 'scored', 'measured'.
        away: what to move away to begin anew.

    Raises:
        ConfigError: they differ, so the rows could not be compared.
    """
    changed = differences(flatten(before), flatten(now))
    if changed:
        raise ConfigError(f'{path} was {made} in another way: {listed(changed)}. What was {made} in two ways '
                          f'cannot be compared: restore the setting, or move {away} away')
