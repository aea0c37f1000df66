"""Many trainings, and what they show together."""

from .results import SweepResults, load_results
from .search import Search
from .shard import Shard, shard_of
from .sweep import Sweep, check_batch, plan_trials, snapshot_epochs_of
from .trials import Trial

__all__ = [
    'Search', 'Shard', 'Sweep', 'SweepResults', 'Trial', 'check_batch', 'load_results', 'plan_trials', 'shard_of', 'snapshot_epochs_of'
]
