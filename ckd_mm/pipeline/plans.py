"""Which kind of run a config asks for."""

from mmengine.config import Config

from .distillation_plan import DistillationPlan
from .mutual_plan import MutualPlan
from .student_plan import PlainPlan, StudentPlan


def make_plan(config: Config) -> StudentPlan:
    """``peer``: students that learn from each other; ``teacher=None``: one that learns alone; else,
    distillation.

    Raises:
        ConfigError: a setting cannot work; the message names it.
    """
    if config.get('peer') is not None:
        return MutualPlan(config)
    if 'teacher' in config and config.teacher is None:
        return PlainPlan(config)
    return DistillationPlan(config)
