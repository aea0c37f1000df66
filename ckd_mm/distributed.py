"""Work that the processes of a run share."""

from collections.abc import Callable
from typing import Any

from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process

from .errors import CkdError, in_a_line


def on_main(work: Callable[[], Any]) -> Any:
    """Work on rank 0 alone, say of reading files; every rank gets its result, or raises its error.

    Args:
        work: must build no data set: mmpretrain's CIFAR and MNIST wait in their constructors for all ranks.
    """
    result, own_error = _attempt(work) if is_main_process() else (None, None)
    outcome = [result, _of_ours(own_error)]
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise own_error or outcome[1]
    return outcome[0]


def on_all(work: Callable[[], Any]) -> Any:
    """Work on every rank; if it fails on one, each rank raises its own error, or that of the first."""
    result, own_error = _attempt(work)
    for error in all_gather_object(_of_ours(own_error)):
        if error is not None:
            raise own_error or error
    return result


def _attempt(work: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return work(), None
    except Exception as error:  # the other ranks would wait for ever
        return None, error


def _of_ours(error: Exception | None) -> CkdError | None:
    """That can be sent to other processes; others may not be picklable."""
    return error if error is None or isinstance(error, CkdError) else CkdError(in_a_line(error))
