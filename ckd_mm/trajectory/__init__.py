"""The checkpoints a training run leaves behind, as files and a manifest."""

from .configs import classifier_config, model_config_of
from .schedule import check_schedule, phase_end, snapshot_epochs
from .shared_work import share_snapshots
from .snapshot import Snapshot, write_snapshot
from .snapshot_writer import SnapshotWriter, finish_writing
from .trajectory import MANIFEST, Trajectory

__all__ = [
    'MANIFEST', 'Snapshot', 'SnapshotWriter', 'Trajectory', 'check_schedule', 'classifier_config',
    'finish_writing', 'model_config_of', 'phase_end', 'share_snapshots', 'snapshot_epochs', 'write_snapshot'
]
