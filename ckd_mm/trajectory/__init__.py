"""The checkpoints that a training run leaves behind, as files and a manifest."""

from .configs import model_config_of
from .schedule import check_schedule, phase_end, snapshot_times
from .shared_work import share_snapshots
from .snapshot import Snapshot, write_snapshot
from .trajectory import MANIFEST, Trajectory

__all__ = ['MANIFEST', 'Snapshot', 'Trajectory', 'check_schedule', 'model_config_of', 'phase_end',
           'share_snapshots', 'snapshot_times', 'write_snapshot']
