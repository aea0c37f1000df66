"""Work that one of several processes does for all."""

from typing import Any, Callable, List

from mmengine.dist import broadcast_object_list, is_main_process

from .errors import CkdError


def on_main(work: Callable[[], Any]) -> Any:
    """Look at the disk on rank 0 alone, and give every rank the result.

    Raises:
        CkdError: on every rank, what ``work`` raised on rank 0.
    """
    outcome: List[Any] = [None, None]
    if is_main_process():
        try:
            outcome[0] = work()
        except CkdError as error:
            outcome[1] = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
