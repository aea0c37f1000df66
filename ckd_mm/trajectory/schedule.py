"""When a training run leaves snapshots."""

from collections.abc import Sequence

from ..errors import ConfigError
from ..validate import check_int


def check_schedule(interval: int | None = None, epochs: Sequence[int] | None = None,
                   phases: int | None = None) -> None:
    """Raises ConfigError unless exactly one is given and can mean epochs of some run."""
    given = {name: value for name, value in dict(interval=interval, epochs=epochs, phases=phases).items()
             if value is not None}
    if len(given) != 1:
        raise ConfigError('snapshots: give exactly one of interval, epochs, phases; got '
                          f'{given or "none of them"}')
    if epochs is None:
        (name, value), = given.items()
        check_int(f'snapshots: {name}', value, 1)
    elif not isinstance(epochs, (list, tuple)) or not epochs or any(
            type(item) is not int or item < 1 for item in epochs):
        raise ConfigError(f'snapshots: epochs={epochs!r} should be a list of epochs, counted from 1')


def snapshot_epochs(max_epochs: int, interval: int | None = None, epochs: Sequence[int] | None = None,
                    phases: int | None = None) -> list[int]:
    """The epochs after which a run leaves snapshots: after every ``interval`` and the last (Algorithm 1 of
    CheckpointKD), just these ``epochs``, or at the ends of equal ``phases`` (Sec. 3.4 of CheckpointKD).
    Raises ConfigError, naming the setting."""
    check_schedule(interval, epochs, phases)
    if interval is not None:
        return sorted({*range(interval, max_epochs + 1, interval), max_epochs})
    if phases is not None:
        if phases > max_epochs:
            raise ConfigError(f'snapshots: phases={phases} but the run has only {max_epochs} epochs; at most '
                              'one phase an epoch')
        return [phase_end(max_epochs, index, phases) for index in range(1, phases + 1)]
    late = [epoch for epoch in epochs if epoch > max_epochs]
    if late:
        raise ConfigError(f'snapshots: epochs={list(epochs)} asks for epoch {late[0]}, but the run ends '
                          f'after {max_epochs} epochs')
    return sorted(set(epochs))


def phase_end(max_epochs: int, index: int, phases: int) -> int:
    """Epoch at which phase ``index`` (from 1) of ``phases`` equal ones ends, rounded to whole epochs."""
    return (2 * index * max_epochs + phases) // (2 * phases)
