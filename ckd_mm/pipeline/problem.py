"""Something of a training that fails in a rehearsal, named by its key."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from ..errors import CkdError, ConfigError, in_a_line
from ..registry import unknown_type

SHOWN = 160  # characters of a value in a message
NEEDS_MORE = '. If it only needs more images than a rehearsal gives it: rehearsal=False'


class Problem(CkdError):
    """Something of a runner that fails.

    Args:
        key: of its config.
        value: of the key; None: too long to be shown.
        fails: 'cannot be built'.
        remedy: what to do where the reason does not say it.
    """

    def __init__(self, key: str, value: Any, fails: str, remedy: str = '') -> None:
        super().__init__(f'{key} {fails}')
        self.key, self.value, self.fails, self.remedy = key, value, fails, remedy

    def __reduce__(self) -> tuple:
        """What other processes get to know."""
        return CkdError, (f'{self.key} {self.fails}: {in_a_line(self.__cause__)}{self.remedy}', )

    def explain(self, setting: str) -> str:
        """
        Args:
            setting: name of the key in the whole config.
        """
        error = self.__cause__
        if isinstance(error, ConfigError):  # says all
            return f'{setting}: {error}'
        unknown = unknown_type(error, self.value or {})
        if unknown is not None:
            return setting + unknown
        shown = ''
        if self.value is not None:
            text = repr(self.value.to_dict() if hasattr(self.value, 'to_dict') else self.value)
            shown = f'={text if len(text) <= SHOWN else text[:SHOWN] + "..."}'
        return f'{setting}{shown} {self.fails}: {in_a_line(error)}{self.remedy}'


@contextlib.contextmanager
def trying(key: str, value: Any = None, fails: str = 'cannot be built', remedy: str = '') -> Iterator[None]:
    try:
        yield
    except Exception as error:  # mmengine's builders and users' own classes raise anything
        if isinstance(error, CkdError) and not isinstance(error, ConfigError):
            raise
        raise Problem(key, value, fails, remedy) from error


def build_metric(name: str, metric: Any) -> Any:
    """
    Args:
        name: of the evaluator in the config.

    Raises:
        ConfigError: there is no such metric, or it does not take its settings.
    """
    if isinstance(metric, BaseMetric):
        return metric
    if not isinstance(metric, dict) or not isinstance(metric.get('type'), (str, type)):
        raise ConfigError(f"{name}: {metric!r} should be a metric, dict(type='Accuracy'), or a list of them")
    try:
        with trying(name, metric):
            return METRICS.build(copy.deepcopy(metric))
    except Problem as problem:
        raise ConfigError(problem.explain(name)) from problem
