"""What the processes of a run do for each other."""

from collections.abc import Callable
from typing import Any

from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process

from .errors import CkdError


def on_main(work: Callable[[], Any]) -> Any:
    """Look at the disk on rank 0 alone, and give every rank the result.

    Args:
        work: builds no data set: mmpretrain's CIFAR and MNIST wait in their constructors until all ranks
            build them.

    Raises:
        CkdError: on every rank, what ``work`` raised on rank 0.
    """
    outcome: list[Any] = [None, None]
    if is_main_process():
        try:
            outcome[0] = work()
        except CkdError as error:
            outcome[1] = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def on_all(work: Callable[[], Any]) -> Any:
    """Do it on every rank.

    Raises:
        CkdError: on every rank, what ``work`` raised on the first rank that it failed on.
    """
    result, problem = None, None
    try:
        result = work()
    except CkdError as error:
        problem = error
    problems: list[CkdError | None] = all_gather_object(problem)
    for problem in problems:
        if problem is not None:
            raise problem
    return result
