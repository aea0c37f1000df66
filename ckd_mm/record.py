"""Whether two runs were asked for the same thing."""

from typing import Any

from .files import plain

# where things lie, or how fast they are read and computed, which no result depends on
NO_RESULT = ('data_root', 'out_dir', 'trajectory', 'compile', 'num_workers', 'persistent_workers', 'pin_memory',
             'prefetch_factor')


def flatten(value: Any, prefix: str = '') -> dict[str, Any]:
    """Nested dicts and lists as ``{'a.b.0': value}``, without :data:`NO_RESULT`."""
    value = plain(value) if not prefix else value
    if isinstance(value, dict):
        pairs = [(key, item) for key, item in value.items() if key not in NO_RESULT]
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    else:
        return {prefix: value}
    result: dict[str, Any] = {}
    for key, item in pairs:
        result.update(flatten(item, f'{prefix}.{key}' if prefix else str(key)))
    return result


def differences(before: dict, now: dict) -> list[str]:
    """Where two :func:`flatten` ed settings differ, each for a person; :func:`listed` makes a sentence of
    them."""
    return [
        f'{key} was {before.get(key)!r}, now {now.get(key)!r}' for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def listed(changed: list[str]) -> str:
    """The first three :func:`differences`, and how many more there are."""
    return '; '.join(changed[:3]) + (f' (and {len(changed) - 3} more)' if len(changed) > 3 else '')
