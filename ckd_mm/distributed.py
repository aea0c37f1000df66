"""Work that the processes of a run share."""

from collections.abc import Callable
from typing import Any

from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process

from .errors import CkdError


def on_main(work: Callable[[], Any]) -> Any:
    """Work on rank 0 alone, say of reading files; every rank gets its result, or raises its CkdError.

    Args:
        work: must build no data set: mmpretrain's CIFAR and MNIST wait in their constructors for all ranks.
    """
    outcome = _attempt(work) if is_main_process() else [None, None]
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def on_all(work: Callable[[], Any]) -> Any:
    """Work on every rank; if it fails, all ranks raise the CkdError of the first rank on which it did."""
    result, own_error = _attempt(work)
    for error in all_gather_object(own_error):
        if error is not None:
            raise error
    return result


def _attempt(work: Callable[[], Any]) -> list[Any]:
    try:
        return [work(), None]
    except CkdError as error:
        return [None, error]
