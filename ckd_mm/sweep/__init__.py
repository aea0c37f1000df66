"""Many trainings, and what they show together."""

from .results import SweepResults, load_results
from .runs import methods_table, read_runs
from .search import Search
from .shard import Shard, shard_of
from .sweep import Sweep, check_batch, plan_trials, snapshot_epochs_of
from .trials import Trial

__all__ = [
    'Search', 'Shard', 'Sweep', 'SweepResults', 'Trial', 'check_batch', 'load_results', 'methods_table',
    'plan_trials', 'read_runs', 'shard_of', 'snapshot_epochs_of'
]
