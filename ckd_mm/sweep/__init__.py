"""Many trainings, and what they show together."""

from .collect import collect
from .results import SweepResults, load_results
from .runs import methods_table, read_runs
from .search import make_search
from .sweep import Sweep, check_batch, plan_trials
from .trials import Trial

__all__ = [
    'Sweep', 'SweepResults', 'Trial', 'check_batch', 'collect', 'load_results', 'make_search',
    'methods_table', 'plan_trials', 'read_runs'
]
