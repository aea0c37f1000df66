"""When a training run leaves snapshots."""

from typing import Any

from ..counting import EPOCH, ITER, WORDS, Length
from ..errors import ConfigError
from ..validate import check_int

LISTED = {EPOCH: 'epochs', ITER: 'iters'}  # the settings that list times
KEYS = ('interval', 'epochs', 'iters', 'phases')


def check_schedule(**when: Any) -> None:
    """Raises ConfigError unless exactly one of :data:`KEYS` is given and can mean times of some run."""
    given = {name: value for name, value in when.items() if value is not None}
    if len(given) != 1:
        raise ConfigError(f'snapshots: give exactly one of {", ".join(KEYS)}; got {given or "none of them"}')
    (name, value), = given.items()
    if name not in LISTED.values():
        check_int(f'snapshots: {name}', value, 1)
    elif not isinstance(value, (list, tuple)) or not value or any(
            type(item) is not int or item < 1 for item in value):
        raise ConfigError(f'snapshots: {name}={value!r} should be a list of {name}, counted from 1')


def snapshot_times(length: Length, **when: Any) -> list[int]:
    """After how many epochs or iterations a run of this length leaves snapshots: after every ``interval`` and
    the last (Algorithm 1 of CheckpointKD), after just these ``epochs`` or ``iters``, or at the ends of equal
    ``phases`` (Sec. 3.4 of CheckpointKD). Raises ConfigError, naming the setting."""
    check_schedule(**when)
    length = Length(length)
    (name, value), = ((name, value) for name, value in when.items() if value is not None)
    if name == 'interval':
        return sorted({*range(value, length + 1, value), int(length)})
    if name == 'phases':
        if value > length:
            raise ConfigError(f'snapshots: phases={value} but the run has only {length.text}; at '
                              f'most one phase an {WORDS[length.unit]}')
        return [phase_end(length, index, value) for index in range(1, value + 1)]
    if name != LISTED[length.unit]:
        raise ConfigError(f'snapshots: {name}={list(value)}, but the training counts {length.words}: give '
                          f'{LISTED[length.unit]}=[...]')
    late = [time for time in value if time > length]
    if late:
        raise ConfigError(f'snapshots: {name}={list(value)} asks for {WORDS[length.unit]} {late[0]}, but the '
                          f'run ends after {length.text}')
    return sorted(set(value))


def phase_end(length: int, index: int, phases: int) -> int:
    """Epoch or iteration at which phase ``index`` (from 1) of ``phases`` equal ones ends, rounded to whole
    ones."""
    return (2 * index * length + phases) // (2 * phases)
