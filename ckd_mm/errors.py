"""Errors that a user can act on; the command line tools print their message and no traceback."""


class CkdError(Exception):
    """A setting, file or environment that cannot work; the message names it and says what to do."""


class ConfigError(CkdError, ValueError):
    """A setting that cannot work."""


class SnapshotError(CkdError):
    """A snapshot or trajectory that is missing, damaged or of another network."""
