"""Errors that a user can act on; the command line tools print their message and no traceback."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CkdError(Exception):
    """A setting, file or environment that cannot work; the message names it and says what to do."""

    def __init__(self, message: str = '') -> None:
        if 'Original Traceback' in message:  # torch puts that of a data loader's worker into the message
            message = message.rstrip().splitlines()[-1].partition(': ')[2]
        super().__init__(message)


class ConfigError(CkdError, ValueError):
    """A setting that cannot work."""


class ImageError(CkdError):
    """An image file that is missing or damaged."""


class SnapshotError(CkdError):
    """A snapshot or trajectory that is missing, damaged or of another network."""


class NotFiniteError(CkdError):
    """Numbers that are NaN or infinity."""


class DivergedError(NotFiniteError):
    """Of a training, which may go on with another learning rate."""


def in_a_line(error: BaseException) -> str:
    """Type and message, as in the last line of a traceback; without a message, the line that failed."""
    if isinstance(error, RecursionError):
        return 'something contains itself, or is nested too deeply (RecursionError)'
    text = ' '.join(str(error).split()).partition(' Exception raised from ')[0]  # and frames of torch's C++
    if not text and error.__traceback__ is not None:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = f'{place.line} ({Path(place.filename).name}, line {place.lineno})'
    return f'{type(error).__name__}: {text}'


@contextmanager
def reading(what: str) -> Iterator[None]:
    """For what may fail in any way before anything is trained, because a user wrote it: an error that is not
    one of ours becomes a ConfigError, ``what`` and then the error in a line."""
    try:
        yield
    except CkdError:
        raise
    except Exception as error:
        raise ConfigError(f'{what}: {in_a_line(error)}') from error
