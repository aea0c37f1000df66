"""Errors that a user can act on; the command line tools print their message and no traceback."""


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
