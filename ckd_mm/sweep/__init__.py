"""Many trainings, and what they show together."""

from .collect import collect
from .runs import methods_table, read_runs
from .search import make_search
from .sweep import Sweep, check_batch, plan_trials
from .trials import Trial

__all__ = ['Sweep', 'Trial', 'check_batch', 'collect', 'make_search', 'methods_table', 'plan_trials',
           'read_runs']
